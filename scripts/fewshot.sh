#!/usr/bin/env bash
# fewshot.sh DATASET SEED [SHOTS|all] [KEY VALUE ...]: train TRAINER (MoCoOp) on all classes with ResNet-50 and test
exec bash "$(dirname "$0")/run" fewshot "$@"
