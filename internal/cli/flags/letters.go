package flags

import "strings"

// letters splits an argument of single letters as getopt(3) does: switches may be joined, as in
// -fN, and a value may follow its letter, as in -D1080. It returns the argument alone if that is a
// flag's whole name or begins with a letter that no flag has.
func letters(flags []*Flag, arg string) []string {
	word, _, _ := strings.Cut(arg, "=")
	if len(arg) < 3 || arg[1] == '-' || lookup(flags, word[1:]) != nil {
		return []string{arg}
	}
	var split []string
	for at, letter := range arg[1:] {
		f := lookup(flags, string(letter))
		if f == nil {
			return []string{arg}
		}
		split = append(split, "-"+string(letter))
		if rest := arg[1+at+len(string(letter)):]; !f.kind.isSwitch() && rest != "" {
			return append(split, rest)
		}
	}
	return split
}
