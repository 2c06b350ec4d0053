#!/usr/bin/env bash
# zeroshot.sh DATASET [base|new|all] [KEY VALUE ...]: evaluate TRAINER (ZeroshotCLIP); by default base, new and all
exec bash "$(dirname "$0")/run" zeroshot "$@"
