package cli

import (
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"
)

// nearest returns the candidate that somebody who wrote word is likely to have meant, "" when none is near: one that
// differs by case, by a few letters, or alone begins as the word does.
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

// didYouMean begins a hint with what was probably meant.
func didYouMean(suggestion, hint string) string {
	if suggestion == "" {
		return hint
	}
	return "did you mean " + suggestion + "? " + hint
}

// spellFlag writes a flag's name with its dashes.
func spellFlag(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// nearestFlag is nearest for the flags of a command.
func nearestFlag(command *cli.Command, word string) string {
	names := []string{"help"}
	for _, f := range command.Flags {
		names = append(names, f.Names()...)
	}
	if name := nearest(strings.TrimLeft(word, "-"), names); name != "" {
		return spellFlag(name)
	}
	return ""
}

// unknownCommand is the failure of a command that is not one of those, which name stands before.
func unknownCommand(name, word string, commands []*cli.Command) error {
	var names []string
	for _, command := range commands {
		names = append(names, command.Names()...)
	}
	suggestion := nearest(word, names)
	if suggestion != "" {
		suggestion = name + " " + suggestion
	}
	return usage(didYouMean(suggestion, helpHint(name, "commands")), "unknown command %q", word)
}
