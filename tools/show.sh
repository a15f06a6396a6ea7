#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lets the demonstration model answer a question, look at a picture and listen to a sound, printing each command
# before its answer.
#   tools/show.sh CARAT [PROMPT]      with a PROMPT: that alone
set -u
carat=$1
prompt=${2-}
failed=0
export CARAT_MODEL="${CARAT_MODEL:-demo/carat-demo.gguf}" # whatever was pulled since

show() { # REMARK ARGUMENT...
    remark=$1
    shift
    printf '\n$ %s run' "$carat"
    for word; do
        case $word in
        *[!A-Za-z0-9/._-]*) printf ' "%s"' "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '%s\n' "${remark:+    # $remark}"
    "$carat" run --temperature 0 "$@" </dev/null || failed=1
}

if [ -n "$prompt" ]; then
    show "" "$prompt"
else
    show "" "What is the capital of France?"
    show "a blue square" --image demo/eval/image_000.png "Describe the picture."
    show "somebody says: purple three down go" --audio demo/eval/audio_016.wav "Transcribe the audio."
fi
exit $failed
