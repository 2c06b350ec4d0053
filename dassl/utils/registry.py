"""A name → object table, filled by a decorator."""

from basics import UserError

from .tools import nearest

__all__ = ["Registry"]


class Registry:
    """Maps names to classes or functions.

    >>> TRAINER_REGISTRY = Registry("TRAINER")
    >>> @TRAINER_REGISTRY.register()
    ... class CoOp: ...
    """

    may_replace = None  # beginning of the names of modules whose classes take the place of others of the same name

    def __init__(self, name):
        self._name = name
        self._obj_map = {}
        self.left_out = {}  # file that would register something: why it couldn't be imported

    def register(self, obj=None, force=False):
        """Register ``obj`` under its own name; without ``obj``, return a decorator that does.

        UserError when the name is taken (unless ``force``): two files, of different repositories perhaps, define it.
        """
        if obj is None:
            return lambda decorated: self._add(decorated, force)
        return self._add(obj, force)

    def _add(self, obj, force):
        name = obj.__name__
        force = force or (self.may_replace is not None and obj.__module__.startswith(self.may_replace))
        if name in self._obj_map and not force:
            taken = self._obj_map[name].__module__
            raise UserError(
                f'{obj.__module__}: the {self._name.lower()} "{name}" is defined by {taken} already; '
                f"rename one of the two classes, or take one of the two files away"
            )
        self._obj_map[name] = obj
        return obj

    def get(self, name):
        """Return the object called ``name``; UserError that names the nearest one when there is none."""
        if name not in self._obj_map:
            raise UserError(
                f'unknown {self._name.lower()} "{name}"{nearest(name, self._obj_map)}; '
                f"known: {', '.join(sorted(self._obj_map)) or 'none'}"
                + "".join(f"; {file} is left out: {reason}" for file, reason in self.left_out.items())
            )
        return self._obj_map[name]

    def registered_names(self):
        """Return the registered names, in the order in which they were registered."""
        return list(self._obj_map)

    def entries(self):
        """Return {name: object} as it is now, for ``restore``."""
        return dict(self._obj_map)

    def remove(self, name):
        """Take out what is registered as ``name``."""
        del self._obj_map[name]

    def restore(self, entries):
        """Put back what ``entries`` returned: what a file registered before it failed goes."""
        self._obj_map = dict(entries)

    def __contains__(self, name):
        return name in self._obj_map
