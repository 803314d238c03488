#!/bin/sh
# Packs a file of functions as a model archive. Without a handler, `marq archive` takes the model file if it
# defines `handle`.
set -eu

if [ $# -eq 0 ]; then
    echo "usage: $0 --model_name NAME --model_file FILE --checkpoint_file FILE --version V [--config_file FILE]" \
        "[--requirements_file FILE] [--extra_files FILE,...] [--export_path DIR]" >&2
    exit 2
fi
exec marq archive --force "$@"
