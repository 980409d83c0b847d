package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsFirst(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"culvert", "culvert"},
		{"culvert local", "culvert local"},
		{"culvert local URL", "culvert local URL"},
		{"culvert local URL --accept-new", "culvert local --accept-new URL"},
		{"culvert local URL -L 1:a:1 --socks none -L=2:a:2", "culvert local -L 1:a:1 --socks none -L=2:a:2 URL"},
		{"culvert local --key k URL --accept-new other", "culvert local --key k --accept-new URL other"},
		{"culvert local --accept-new URL", "culvert local --accept-new URL"},
		{"culvert local URL -key k", "culvert local -key k URL"},
		{"culvert local URL --keepalive -1s", "culvert local --keepalive -1s URL"},
		{"culvert local URL --key --accept-new", "culvert local --key --accept-new URL"},
		{"culvert local URL -- --key", "culvert local URL -- --key"},
		{"culvert local - URL --accept-new", "culvert local --accept-new - URL"},
		{"culvert cert verify FILE --ca ca", "culvert cert verify --ca ca FILE"},
		{"culvert cert FILE", "culvert cert FILE"},
		{"culvert local URL --help --bogus", "culvert local --help"},
		{"culvert local --key k -h URL", "culvert local --help"},
		{"culvert cert show -h", "culvert cert show --help"},
		{"culvert bogus --bogus", "culvert bogus --bogus"},
		{"culvert --version", "culvert --version"},
		{"culvert -h", "culvert -h"},
	} {
		got, err := flagsFirst(newApp("test"), strings.Fields(test.args))
		if err != nil || !slices.Equal(got, strings.Fields(test.want)) {
			t.Errorf("%s: got %q, %v", test.args, got, err)
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
	} {
		_, err := flagsFirst(newApp("test"), strings.Fields(test.args))
		var failure *Failure
		if !errors.As(err, &failure) || failure.Code != exitUsage || failure.What != test.what {
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

// TestVariables checks that every flag has its environment variable, and by the rule that docs/cli.md gives.
func TestVariables(t *testing.T) {
	eachCommand(newApp("test"), func(name string, command *cli.Command) {
		for _, f := range command.Flags {
			documented, ok := f.(cli.DocGenerationFlag)
			if !ok || !slices.Equal(documented.GetEnvVars(), env(f.Names()[0])) {
				t.Errorf("%s: --%s has the variables %q", name, f.Names()[0], documented.GetEnvVars())
			}
		}
	})
	if got := env("authorized-keys")[0]; got != "CULVERT_AUTHORIZED_KEYS" {
		t.Errorf("the variable of --authorized-keys is %s", got)
	}
}

// eachCommand calls f for each command that does something.
func eachCommand(app *cli.App, f func(name string, command *cli.Command)) {
	for _, command := range app.Commands {
		if len(command.Subcommands) == 0 {
			f(app.Name+" "+command.Name, command)
		}
		for _, sub := range command.Subcommands {
			f(app.Name+" "+command.Name+" "+sub.Name, sub)
		}
	}
}
