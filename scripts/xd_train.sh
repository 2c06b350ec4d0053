#!/usr/bin/env bash
# xd_train.sh DATASET SEED [KEY VALUE ...]: train TRAINER (MoCoOp) on all classes of DATASET (imagenet) for xd_test.sh
exec bash "$(dirname "$0")/run" xd_train "$@"
