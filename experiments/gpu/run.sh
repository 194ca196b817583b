#!/bin/sh
# sh run.sh OUT [FLAGS]: tests and measures on this machine's GPU; the folder OUT gets the logs.
# FLAGS are those of `python -m experiments.gpu`. PYTHON=... names another interpreter than python3.
set -eu
: "${1:?usage: sh run.sh OUT [FLAGS]}"
case $1 in /*) out=$1 ;; *) out=$PWD/$1 ;; esac
shift
cd "$(dirname "$0")"
python=${PYTHON:-python3}
if [ ! -d site ]; then
  rm -rf site.partial && mkdir site.partial
  if [ -n "$(ls wheels)" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
      --target site.partial wheels/*.whl
  fi
  mv site.partial site
fi
export PYTHONPATH="$PWD/site${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m experiments.gpu --out="$out" "$@"
