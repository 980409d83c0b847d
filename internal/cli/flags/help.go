package flags

// helpFlag turns `culvert help COMMAND…` into what it is short for: `culvert COMMAND… --help`.
func helpFlag(args []string) []string {
	if len(args) < 2 || args[1] != "help" {
		return args
	}
	words := append([]string{args[0]}, args[2:]...)
	if len(args) > 2 {
		return append(words, "--help")
	}
	return words
}

// helpHint refers to the list of a command's flags, or of its commands.
func helpHint(command, listed string) string {
	return "`" + command + " --help` lists the " + listed
}

// appHelp and commandHelp are templates for the library's help printer, which aligns the text after
// tabs.
const (
	appHelp = `culvert: {{.Usage}}

usage: culvert COMMAND [FLAG]... [ARGUMENT]

commands:{{range .VisibleCommands}}
   {{.Name}}{{"\t"}}{{.Usage}}{{end}}
   help{{"\t"}}show this, or the help of a command: culvert help COMMAND

flags:
   --help, -h{{"\t"}}show help
   --version, -v{{"\t"}}print the version
`

	commandHelp = `{{.HelpName}}: {{.Usage}}

usage: {{.HelpName}}{{if .VisibleCommands}} COMMAND{{end}}` +
		` {{.ArgsUsage}}
{{if .VisibleCommands}}
commands:{{range .VisibleCommands}}
   {{.Name}}{{"\t"}}{{.Usage}}{{end}}
{{end}}{{range .VisibleFlagCategories}}
{{if .Name}}{{.Name}}{{else}}flags{{end}}:{{range .Flags}}
   {{.}}{{end}}
{{else}}{{if .VisibleFlags}}
flags:{{range .VisibleFlags}}
   {{.}}{{end}}
{{end}}{{end}}`
)
