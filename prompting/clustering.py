"""k-means of texts by their features, and how many groups there are."""

import warnings

from basics import UserError


def grouped(texts, features, num_groups, seed=0):
    """Groups of texts by k-means on their features, the best of 20 starts.

    Args:
        texts: [T] templates, or sentences.
        features: [T, E], unit length.
        num_groups: number of groups, 1 … T.
        seed: of the starts.

    Returns:
        list of groups, each a list of numbers of texts, in the order in which ``texts`` first mentions them; in each the text
        nearest to the centre comes first, the others by distance. The texts' order has no other influence.

    Raises:
        UserError: more groups than different texts, or fewer than one.
    """
    import numpy as np

    if not 1 <= num_groups <= len(texts):
        raise UserError(f"--groups {num_groups}: {len(texts)} different templates make 1 to {len(texts)} groups")
    order = sorted(range(len(texts)), key=lambda i: texts[i])
    x = np.asarray(features, dtype=np.float64)[order]
    means = k_means(x, num_groups, seed)
    if len(set(means.labels_)) < num_groups:
        raise UserError(f"--groups {num_groups}: CLIP tells only {len(set(means.labels_))} of the templates apart")
    distance = np.linalg.norm(x - means.cluster_centers_[means.labels_], axis=1).round(9)  # equal ones keep their order
    members = [[] for _ in range(num_groups)]
    for row in np.argsort(distance, kind="stable"):
        members[means.labels_[row]].append(order[row])
    return sorted(members, key=min)


def k_means(x, num_groups, seed):
    """scikit-learn's k-means of rows [T, E], fitted."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its callers see to it
        return KMeans(num_groups, n_init=20, random_state=seed).fit(x)


def silhouettes(texts, features, most, seed=0):
    """{number of groups: mean silhouette of ``grouped``'s groups} from 2 to ``most``, of those numbers that can be.

    Raises:
        UserError: fewer than three different texts.
    """
    import numpy as np
    from sklearn.metrics import silhouette_score

    order = sorted(range(len(texts)), key=lambda i: texts[i])
    x, found = np.asarray(features, dtype=np.float64)[order], {}
    for number in range(2, min(most, len(texts) - 1) + 1):
        labels = k_means(x, number, seed).labels_
        if len(set(labels)) == number:
            found[number] = float(silhouette_score(x, labels))
    if not found:
        raise UserError("--groups auto: CLIP must tell at least three of the templates apart; give the number of groups")
    return found
