"""Linear probe: logistic regression on frozen CLIP image features, with CoOp's search for the regularisation."""

import time
import warnings

import numpy as np
import torch
from torch import nn

from basics import UserError
from dassl.config import key, section
from dassl.data import build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import check_finite
from learning import ImageLearning, PromptTrainer
from learning.keys import precision

COARSE = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)


@TRAINER_REGISTRY.register()
class LinearProbe(PromptTrainer):
    """scikit-learn's logistic regression (L-BFGS, L2); images through the test transform, features as CLIP gives them.

    The inverse regularisation C is the best on the validation samples of seven powers of ten, then of SEARCH_STEPS halvings of
    the interval around it (repository CoOp, lpclip).
    """

    section = "LINEARPROBE"
    image_learning = ImageLearning.NOTHING
    model_name = "linear_probe"
    names_classes = False

    @staticmethod
    def extend_cfg(cfg):
        cfg.TRAINER.LINEARPROBE = section(
            PREC=precision("fp32"),
            SEARCH_STEPS=key(8, "halvings of the interval around the best C", low=0, high=1000),
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

    def encode_image(self, images):
        """Features [b, E] as CLIP gives them, not of unit length."""
        return (images if images.dim() == 2 else self.clip.encode_image(images, raw=True)).float()

    def train(self):
        """Fit, save, evaluate."""
        self._trained = True
        self.claim("training run")
        start = time.monotonic()
        dataset = self.dm.dataset
        train, val = self.features(dataset.train_x), self.features(dataset.val or dataset.train_x)
        if not dataset.val:
            print("No validation samples: C is chosen on the training samples")
        classifier = self.search(train, val)
        with torch.no_grad():
            weight, bias = classifier.coef_, classifier.intercept_
            if len(weight) == 1:  # two classes: scikit-learn keeps one row, the second class' score
                weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
            self.learner.weight.copy_(torch.from_numpy(weight))
            self.learner.bias.copy_(torch.from_numpy(bias))
        self.add_train_seconds(time.monotonic() - start)
        self.save_model(self.max_epoch - 1, self.output_dir)
        self.test()

    @torch.no_grad()
    def features(self, items):
        """Features [n, E] and labels [n] of a list of Datum, as numpy arrays."""
        cfg = self.cfg
        tfm = build_transform(cfg, is_train=False)
        loader = build_data_loader(cfg, data_source=items, batch_size=cfg.DATALOADER.TEST.BATCH_SIZE, tfm=tfm, is_train=False)
        loader = self.image_features.batches(loader)
        batches = [(self.encode_image(b["img"].to(self.device)).cpu(), b["label"]) for b in loader]
        features, labels = torch.cat([f for f, _ in batches]), torch.cat([y for _, y in batches])
        check_finite(features, "the image features")
        return features.numpy(), labels.numpy()

    def search(self, train, val):
        """The classifier whose C does best on ``val``; both are (features, labels)."""
        fit = lambda c: self.fit(train, val, c)  # noqa: E731
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

    def fit(self, train, val, c):
        """(accuracy on ``val``, fitted classifier) for one C."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        if len(np.unique(train[1])) < 2:
            raise UserError("a linear probe needs training samples of at least two classes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a huge C need not converge within MAX_ITER; CoOp's doesn't
            classifier = LogisticRegression(C=c, max_iter=self.options.MAX_ITER).fit(*train)
        return float(np.mean(classifier.predict(val[0]) == val[1])), classifier
