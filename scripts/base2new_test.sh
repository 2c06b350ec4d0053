#!/usr/bin/env bash
# base2new_test.sh DATASET SEED [KEY VALUE ...]: test what base2new_train.sh trained on the new classes
exec bash "$(dirname "$0")/run" base2new_test "$@"
