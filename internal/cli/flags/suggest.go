package flags

import (
	"strings"

	"culvert/internal/cli/exit"

	"github.com/xrash/smetrics"
)

// nearest returns the candidate that word is most likely a misspelling of, or "" if none is near:
// one that differs in case or in a few letters, or the only one that begins with word.
func nearest(word string, candidates []string) string {
	word = strings.ToLower(word)
	best, least := "", (len(word)+1)/3+1
	begins, beginning := "", 0
	for _, candidate := range candidates {
		lower := strings.ToLower(candidate)
		distance := smetrics.WagnerFischer(word, lower, 1, 1, 1) // Levenshtein's
		if distance < least && (distance == 0 || len(word) > 1 && len(candidate) > 1) {
			best, least = candidate, distance
		}
		if len(word) > 2 && strings.HasPrefix(lower, word) {
			begins = candidate
			beginning++
		}
	}
	if best == "" && beginning == 1 {
		return begins
	}
	return best
}

// didYouMean puts a suggestion, which may be empty, before a hint.
func didYouMean(suggestion, hint string) string {
	if suggestion == "" {
		return hint
	}
	return "did you mean " + suggestion + "? " + hint
}

// nearestFlag is nearest for flags with their dashes.
func nearestFlag(flags []*Flag, word string) string {
	names := []string{"help"}
	for _, f := range flags {
		names = append(names, f.names...)
	}
	if name := nearest(strings.TrimLeft(word, "-"), names); name != "" {
		return spellFlag(name)
	}
	return ""
}

// unknownCommand is the failure of a word that is none of the commands of parent.
func unknownCommand(parent, word string, commands []*Command) error {
	suggestion := nearest(word, commandNames(commands))
	if suggestion != "" {
		suggestion = parent + " " + suggestion
	}
	return exit.Usagef(didYouMean(suggestion, helpHint(parent, "commands")),
		"unknown command %q", word)
}
