"""Learned rows of classes, used with other classes: a row is found by its class's name."""

import torch


class NamedClasses:
    """Part of methods whose checkpoints know the names of their classes, before PromptTrainer among a class's bases."""

    _trained_classes = None  # of the checkpoint that is being loaded, where it says

    def checkpoint_extras(self):
        return {**super().checkpoint_extras(), "classes": list(self.dm.dataset.classnames)}

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        self._trained_classes = extras.get("classes")

    def learned_classes(self, trained):
        """[(number of a class here, its number among the trained ones)] of the classes that both have."""
        own, source = list(self.dm.dataset.classnames), self._source()
        if trained == own:
            return [(row, row) for row in range(len(own))]
        taken = list(enumerate(source[1])) if source and source[0] == trained else _same_names(own, trained)
        print(f"Of these {len(own)} classes, {len(taken)} were learned")
        return taken

    def _source(self):
        """(names of all classes, row of each own class) of the data set that this one is a test set for, or None."""
        find = getattr(self.dm.dataset, "training_rows", None)
        found = find() if find else None
        return found if found and len(found[1]) == len(self.dm.dataset.classnames) else None


class ClassRows(NamedClasses):
    """Part of methods whose learner has a row for each class (a classifier), before PromptTrainer among a class's bases.

    With other classes than the checkpoint's, the rows of those that it knows are taken, and all other rows are
    ``unlearned_rows``.
    """

    class_rows: tuple[str, ...] = ("classifier",)  # entries of the learner's state with a row for each class

    def unlearned_rows(self, entry, like):
        """Rows [C, ...] of classes for which nothing was learned: zero, as ``known`` tells. ``like``: a tensor of their type."""
        return torch.zeros(self.num_classes, *like.shape[1:], dtype=like.dtype)

    def adapt_state_dict(self, name, state_dict):
        state_dict = super().adapt_state_dict(name, state_dict)
        entries = [entry for entry in self.class_rows if entry in state_dict]
        trained, source = self._trained_classes, self._source()
        if not trained and source and all(len(state_dict[entry]) == len(source[0]) for entry in entries):
            trained = source[0]  # a published checkpoint, which doesn't say
        if not trained or trained == list(self.dm.dataset.classnames):
            return state_dict
        taken = self.learned_classes(trained)
        for entry in entries:
            rows = self.unlearned_rows(entry, state_dict[entry])
            for row, before in taken:
                rows[row] = state_dict[entry][before]
            state_dict[entry] = rows
        return state_dict


def _same_names(own, trained):
    """[(row, row of the same name among the trained ones)]; of a name that stands twice there, the first."""
    number = {}
    for row, classname in enumerate(trained):
        number.setdefault(classname, row)
    twice = sorted({name for name in own if trained.count(name) > 1})
    if twice:
        print(f'WARNING: more than one learned class is called "{twice[0]}": the first one\'s row is taken')
    return [(row, number[classname]) for row, classname in enumerate(own) if classname in number]


def known(rows):
    """Which rows of [C, ...] aren't all zero: [C]."""
    return rows.detach().flatten(1).abs().sum(dim=1) > 0
