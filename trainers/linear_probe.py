"""Linear probe: logistic regression on frozen CLIP image features, with CoOp's search for the regularisation."""

import warnings

import numpy as np
import torch
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.engine import TRAINER_REGISTRY
from learning import PromptTrainer
from learning.keys import precision
from learning.support import FrozenFeatures, WithoutEpochs

COARSE = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)


@TRAINER_REGISTRY.register()
class LinearProbe(WithoutEpochs, FrozenFeatures, PromptTrainer):
    """scikit-learn's logistic regression (L-BFGS, L2); images through the test transform, features as CLIP gives them.

    The inverse regularisation C is the best on the validation samples of seven powers of ten, then of SEARCH_STEPS halvings of
    the interval around it (repository CoOp, lpclip).
    """

    section = "LINEARPROBE"
    model_name = "linear_probe"
    names_classes = False

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.LINEARPROBE = section(
            PREC=precision("fp32"),
            SEARCH_STEPS=key(8, "halvings of the interval around the best C", low=0, high=64),
            MAX_ITER=key(1000, "iterations of L-BFGS", low=1),
        )

    @classmethod
    def knows_its_classes_only(cls, cfg):
        return True

    def build_learner(self, classnames):
        return nn.Linear(self.clip.embed_dim, len(classnames))

    def prepare(self):
        """Nothing: the classifier is the learner itself."""

    def logits(self, image_features, _=None):
        return self.learner(image_features)

    def fit(self):
        items = self.validation_items()
        if not items:
            print("No validation samples: C is chosen on the training samples")
        train = self.features(self.dm.dataset.train_x)
        val = self.features(items) if items else train
        classifier = self.search(train, val)
        with torch.no_grad():
            weight, bias = classifier.coef_, classifier.intercept_
            if len(weight) == 1:  # two classes: scikit-learn keeps one row, the second class' score
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            self.learner.weight.copy_(torch.from_numpy(weight))
            self.learner.bias.copy_(torch.from_numpy(bias))

    def features(self, items):
        """Features [n, E] and labels [n] of a list of Datum, as numpy arrays."""
        return tuple(tensor.cpu().numpy() for tensor in self.features_of(self.loader_of(items)))

    def search(self, train, val):
        """The classifier whose C does best on ``val``; both are (features, labels)."""
        fit = lambda c: self.fitted(train, val, c)  # noqa: E731
        accuracy, classifiers = zip(*(fit(c) for c in COARSE))
        best = int(np.argmax(accuracy))
        c, classifier = COARSE[best], classifiers[best]
        left, right = np.log10(c) - 1, np.log10(c) + 1
        for _ in range(self.options.SEARCH_STEPS):
            (acc_left, with_left), (acc_right, with_right) = fit(10**left), fit(10**right)
            middle = (left + right) / 2
            if acc_left < acc_right:
                c, classifier, left = 10**right, with_right, middle
            else:
                c, classifier, right = 10**left, with_left, middle
        print(f"C = {c:.4g}")
        return classifier

    def fitted(self, train, val, c):
        """(accuracy on ``val``, fitted classifier) for one C."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(train[1])) < 2:
            raise UserError("a linear probe needs training samples of at least two classes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a huge C need not converge within MAX_ITER; CoOp's doesn't
            classifier = LogisticRegression(C=c, max_iter=self.options.MAX_ITER).fit(*train)
        return float(np.mean(classifier.predict(val[0]) == val[1])), classifier
