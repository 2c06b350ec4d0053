"""What is learned for each class, used with other classes: rows are found by the classes' names."""

import torch


class ClassRows:
    """Part of methods whose learner has a row for each class (a classifier), before PromptTrainer among a class's bases.

    A checkpoint knows the names of its classes. With other classes, the rows of those that it knows are taken, and all other rows
    are zero: ``known`` tells which.
    """

    class_rows: tuple[str, ...] = ("classifier",)  # entries of the learner's state with a row for each class

    def checkpoint_extras(self):
        return {**super().checkpoint_extras(), "classes": list(self.dm.dataset.classnames)}

    def load_checkpoint_extras(self, extras):
        super().load_checkpoint_extras(extras)
        self._trained_classes = extras.get("classes")

    _trained_classes = None  # of the checkpoint that is being loaded, where it says

    def adapt_state_dict(self, name, state_dict):
        state_dict, trained = super().adapt_state_dict(name, state_dict), self._trained_classes
        own = list(self.dm.dataset.classnames)
        if not trained or trained == own:
            return state_dict
        number = {classname: row for row, classname in enumerate(trained)}
        taken = [(row, number[classname]) for row, classname in enumerate(own) if classname in number]
        print(f"Of these {len(own)} classes, {len(taken)} were learned")
        for entry in set(self.class_rows) & state_dict.keys():
            rows = torch.zeros(len(own), *state_dict[entry].shape[1:], dtype=state_dict[entry].dtype)
            for row, before in taken:
                rows[row] = state_dict[entry][before]
            state_dict[entry] = rows
        return state_dict


def known(rows):
    """Which rows of [C, ...] aren't all zero: [C]."""
    return rows.detach().flatten(1).abs().sum(dim=1) > 0
