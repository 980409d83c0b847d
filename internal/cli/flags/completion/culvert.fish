# Completion of culvert's command lines in fish:
#   culvert completion fish | source
# or as ~/.config/fish/completions/culvert.fish.

function __culvert_candidates
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    if test "$words[2]" = run; and contains -- -- $words[3..-1]
        # The command that culvert runs has its own completion.
        set -l at (contains -i -- -- $words)
        set -l inner $words[(math $at + 1)..-1] $word
        test (count $words) -eq $at; and set inner $word
        complete -C (string join ' ' -- $inner)
        return
    end
    set -l found ($words[1] __complete $words[2..-1] $word 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path $word
    end
end

complete -c culvert -f -a '(__culvert_candidates)'
