#!/bin/sh
# Stands for the build of a project that pip does not install: makes a Python module where the model is.
set -e
cat > rounding.py <<'PYTHON'
def rounded(number, digits=4):
    return round(float(number), digits)
PYTHON
