#!/usr/bin/env bash
# xd_test.sh DATASET SEED [KEY VALUE ...]: test what xd_train.sh trained on SOURCE (imagenet) on another dataset
exec bash "$(dirname "$0")/run" xd_test "$@"
