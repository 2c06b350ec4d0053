#!/usr/bin/env bash
# base2new_train.sh DATASET SEED [KEY VALUE ...]: train TRAINER (MoCoOp) on the base classes, 16 shots, and test on them
exec bash "$(dirname "$0")/run" base2new_train "$@"
