#compdef culvert
# Completion of culvert's command lines in zsh:
#   source <(culvert completion zsh)
# or as the file _culvert in a folder of $fpath.

_culvert() {
  local line word meaning
  local -a described
  local at=${words[(i)--]}
  if [[ ${words[2]} == run ]] && ((at < CURRENT)); then
    # The command that culvert runs has its own completion.
    words=("${(@)words[at + 1, -1]}")
    ((CURRENT -= at))
    _normal
    return
  fi
  while IFS= read -r line; do
    word=${line%%$'\t'*} meaning=${line#*$'\t'}
    described+=("${word//:/\\:}${meaning:+:$meaning}")
  done < <("${words[1]}" __complete "${(@)words[2, CURRENT]}" 2>/dev/null)
  if ((${#described})); then
    _describe culvert described
  else
    _files
  fi
}

if [[ ${funcstack[1]} == _culvert ]]; then
  _culvert "$@"
else
  compdef _culvert culvert
fi
