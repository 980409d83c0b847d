# Completion of culvert's command lines in bash 4 or newer:
#   source <(culvert completion bash)

_culvert() {
  local line word cur=${COMP_LINE:0:COMP_POINT}
  COMPREPLY=()
  # COMP_WORDS is also split at : and =, which occur in addresses and --flag=value.
  local -a words
  read -ra words <<<"$cur"
  [[ $cur == *[[:space:]] ]] && words+=('')
  word=${words[-1]}
  local -a rest=("${words[@]:1}")
  local i
  for ((i = 0; i < ${#rest[@]} - 1; i++)); do
    if [[ ${rest[i]} == -- && ${rest[0]} == run ]]; then
      # The command that culvert runs, and its arguments.
      if ((i == ${#rest[@]} - 2)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
      fi
      return
    fi
  done
  while IFS= read -r line; do
    COMPREPLY+=("${line%%$'\t'*}")
  done < <("${words[0]}" __complete "${rest[@]}" 2>/dev/null)
  # Readline only replaces what follows the last = or :.
  local prefix=${word%"${word##*[=:]}"}
  if [[ -n $prefix ]]; then
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
  fi
}

complete -o bashdefault -o default -F _culvert culvert
