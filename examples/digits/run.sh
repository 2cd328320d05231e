#!/usr/bin/env bash
# Real recordings and real handwriting, bridged without pairs:
#
#     examples/digits/run.sh DATA [OUT] [STEPS]
#
# DATA holds images.csv (path, digit, split) and audio.csv (path, digit, speaker, split), for
# example MNIST pictures and the Free Spoken Digit Dataset. STEPS fit each encoder.
set -euo pipefail
data=${1:?usage: run.sh DATA [OUT] [STEPS]}
[ -e "$data/images.csv" ] && [ -e "$data/audio.csv" ] || { echo "$data has no images.csv and audio.csv" >&2; exit 1; }
out=${2:-runs/digits}
steps=${3:-500}
here=$(dirname "$0")
python "$here/make_tables.py" "$data" "$out"

# Two small spaces: one knows pictures and text, the other sounds and text.
[ -e "$out/digits-clip.safetensors" ] || mcr fit "$out/images.csv" --out "$out/digits-clip.safetensors" \
    --modality image=path --modality text=caption --group-column digit --where split=train \
    --image-height 32 --image-width 32 --dimension 128 --steps "$steps"
[ -e "$out/digits-clap.safetensors" ] || mcr fit "$out/sounds.csv" --out "$out/digits-clap.safetensors" \
    --modality audio=path --modality text=caption --group-column digit --where split=train \
    --dimension 96 --steps "$steps"
clip=mini:$out/digits-clip.safetensors
clap=mini:$out/digits-clap.safetensors

# Memories: the same sentences in both spaces; training and test pictures and sounds.
table=(--label-column digit --id-column key --resume)
mcr extract "$out/texts.txt" -e "$clip" -m text -o "$out/texts-clip.h5" --resume
mcr extract "$out/texts.txt" -e "$clap" -m text -o "$out/texts-clap.h5" --resume
for split in train test; do
    mcr extract "$out/images.csv" -e "$clip" -m image -o "$out/images-$split.h5" "${table[@]}" --where split=$split
    mcr extract "$out/sounds.csv" -e "$clap" -m audio -o "$out/sounds-$split.h5" "${table[@]}" --where split=$split
done

# The bridge, without pairs; for comparison C-MCR's recipe, and the same projectors on true pairs.
settings=(--dimension 128 --hidden 256 --holdout 0 --resume)
unpaired=(--hub "$out/texts-clip.h5" --hub "$out/texts-clap.h5"
    --leaf "$out/images-train.h5" --leaf "$out/sounds-train.h5")
mcr train "${unpaired[@]}" --out "$out/bridge" "${settings[@]}"
mcr train "${unpaired[@]}" --out "$out/bridge-published" --preset published "${settings[@]}"
mcr extract "$out/pairs-images.csv" -e "$clip" -m image -o "$out/pairs-images.h5" "${table[@]}"
mcr extract "$out/pairs-sounds.csv" -e "$clap" -m audio -o "$out/pairs-sounds.h5" "${table[@]}"
mcr train --pairs "$out/pairs-images.h5" --pairs "$out/pairs-sounds.h5" \
    --out "$out/bridge-true-pairs" --preset published "${settings[@]}"

printf '\n'
mcr compare "$out/bridge-true-pairs" "$out/bridge-published" "$out/bridge" \
    --query "$out/sounds-test.h5" --gallery "$out/images-test.h5"

printf '\nWhich handwriting is this sound?\n'
mcr query "$data/audio/7_theo_3.wav" --bridge "$out/bridge" --memory "$out/images-test.h5" -k 5
