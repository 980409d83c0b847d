package flags

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"culvert/internal/cli/exit"
)

func TestFlagsFirst(t *testing.T) {
	app, _ := testApp()
	for _, test := range []struct{ args, want string }{
		{"culvert", "culvert"},
		{"culvert local", "culvert local"},
		{"culvert local URL", "culvert local URL"},
		{"culvert local URL --accept-new", "culvert local --accept-new URL"},
		{
			"culvert local URL -L 1:a:1 --socks none -L=2:a:2",
			"culvert local -L 1:a:1 --socks none -L=2:a:2 URL",
		},
		{
			"culvert local --key k URL --accept-new other",
			"culvert local --key k --accept-new URL other",
		},
		{"culvert local --accept-new URL", "culvert local --accept-new URL"},
		{"culvert local URL -key k", "culvert local -key k URL"},
		{"culvert local URL --keepalive -1s", "culvert local --keepalive -1s URL"},
		{"culvert local URL --key --accept-new", "culvert local --key --accept-new URL"},
		{"culvert local URL -- --key", "culvert local -- URL --key"},
		{"culvert run URL -- a -- b", "culvert run URL -- a -- b"},
		{"culvert local -D 1 --socks 2 -D=3", "culvert local --socks 1 --socks 2 --socks=3"},
		{"culvert keygen -o a --out=b", "culvert keygen --out a --out=b"},
		{"culvert local - URL --accept-new", "culvert local --accept-new - URL"},
		{"culvert cert verify FILE --ca ca", "culvert cert verify --ca ca FILE"},
		{"culvert cert FILE", "culvert cert FILE"},
		{"culvert bogus --bogus", "culvert bogus --bogus"},
		{"culvert --version", "culvert --version"},
	} {
		got, err := app.flagsFirst(strings.Fields(test.args))
		if err != nil || !slices.Equal(got, strings.Fields(test.want)) {
			t.Errorf("%s: got %q, %v", test.args, got, err)
		}
	}
	for _, test := range []struct{ args, of string }{
		{"culvert local URL --help --bogus", "culvert local"},
		{"culvert local --key k -h URL", "culvert local"},
		{"culvert cert show -h", "culvert cert show"},
		{"culvert cert --help", "culvert cert"},
		{"culvert -h", ""},
		{"culvert --help=true", ""},
	} {
		_, err := app.flagsFirst(strings.Fields(test.args))
		help, ok := errors.AsType[*helpWanted](err)
		if !ok || help.command == nil != (test.of == "") ||
			help.command != nil && help.command.full != test.of {
			t.Errorf("%s: got %v, want help of %q", test.args, err, test.of)
		}
	}
	for _, test := range []struct{ args, what string }{
		{"culvert --bogus", "unknown flag --bogus"},
		{"culvert --socks none local URL", "unknown flag --socks"},
		{"culvert local URL --bogus=1", "unknown flag --bogus"},
		{"culvert check URL --socks none", "unknown flag --socks"},
		{"culvert cert --ca ca", "unknown flag --ca"},
		{"culvert local URL --key", "--key needs a value"},
		{"culvert local URL -L", "-L needs a value"},
		{"culvert local --keepalive soon", `bad --keepalive "soon": want a duration as in "20s"`},
		{"culvert local --keepalive=soon", `bad --keepalive "soon": want a duration as in "20s"`},
		{"culvert remote --max-streams 1.5", `bad --max-streams "1.5": want a number`},
		{"culvert remote --max-streams 010", `bad --max-streams "010": want a number`},
		{"culvert remote --max-streams 0x10", `bad --max-streams "0x10": want a number`},
		{"culvert local --accept-new=maybe", `bad --accept-new "maybe": want true or false`},
	} {
		_, err := app.flagsFirst(strings.Fields(test.args))
		var failure *exit.Failure
		if !errors.As(err, &failure) || failure.Code != exit.Usage || failure.What != test.what {
			t.Errorf("%s: got %v, want: %s", test.args, err, test.what)
		}
	}
}

func TestHelpCommand(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"culvert help", "culvert"},
		{"culvert help local", "culvert local --help"},
		{"culvert help cert issue", "culvert cert issue --help"},
		{"culvert local help", "culvert local help"},
		{"culvert", "culvert"},
	} {
		if got := helpFlag(strings.Fields(test.args)); !slices.Equal(got, strings.Fields(test.want)) {
			t.Errorf("%s: got %q", test.args, got)
		}
	}
}

// TestArguments runs commands with arguments, and looks at what they get.
func TestArguments(t *testing.T) {
	for _, test := range []struct {
		args, url string
		argv      []string
	}{
		{"check URL", "URL", nil},
		{"run URL -- a -b --key", "URL", []string{"a", "-b", "--key"}},
		{"run --accept-new URL --key k -- a -- b", "URL", []string{"a", "--", "b"}},
	} {
		app, o := testApp()
		err := app.Run(t.Context(), append([]string{"culvert"}, strings.Fields(test.args)...))
		if err != nil || o.url != test.url || !slices.Equal(o.argv, test.argv) {
			t.Errorf("%s: got %q and %q, %v", test.args, o.url, o.argv, err)
		}
	}
	for _, test := range []struct{ args, what, hint string }{
		{"check", "REMOTE_URL is missing", "usage: culvert check REMOTE_URL"},
		{"check a b", `unexpected argument "b"`, "usage: culvert check REMOTE_URL"},
		{"check a -- b", `unexpected argument "b"`, "usage: culvert check REMOTE_URL"},
		{"demo a", `unexpected argument "a"`, "usage: culvert demo"},
		{"cert ca a", "--name is missing", "usage: culvert cert ca --name NAME"},
		{"cert ca --name= ", "--name is missing", "usage: culvert cert ca --name NAME"},
		{"cert ca --name a b", `unexpected argument "b"`, "usage: culvert cert ca --name NAME"},
		{"run", "REMOTE_URL is missing", ""},
		{"run a", "no command after REMOTE_URL and --", ""},
		{"run a --", "no command after REMOTE_URL and --", ""},
		{"run a b -- c", `unexpected argument "b"`,
			"usage: culvert run REMOTE_URL -- COMMAND [ARGUMENT]..."},
	} {
		app, _ := testApp()
		err := app.Run(t.Context(), append([]string{"culvert"}, strings.Fields(test.args)...))
		var failure *exit.Failure
		if !errors.As(err, &failure) || failure.Code != exit.Usage || failure.What != test.what ||
			test.hint != "" && failure.Hint != test.hint {
			t.Errorf("%s: got %v, want: %s", test.args, err, test.what)
		}
	}
}
