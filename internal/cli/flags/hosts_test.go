package flags

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFirstFile: the first file that exists is read, and no later one.
func TestFirstFile(t *testing.T) {
	dir := t.TempDir()
	user, system := filepath.Join(dir, "user.toml"), filepath.Join(dir, "system.toml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CULVERT_CONFIG", "")
	os.Unsetenv("CULVERT_CONFIG")
	check := func(want string, args ...string) {
		t.Helper()
		app, o := testApp()
		app.ConfigFiles = []string{user, system}
		err := app.Run(t.Context(), append([]string{"culvert", "local", "URL"}, args...))
		if err != nil || o.socks != want {
			t.Errorf("%v: got %q, %v", args, o.socks, err)
		}
	}
	check("127.0.0.1:1080")
	write(system, "socks = 'system'\nkey = 'system'\n")
	check("system")
	write(user, "socks = 'user'\n")
	check("user")
	check("given", "--socks", "given")
	check("system", "--config", system)
	check("127.0.0.1:1080", "--config", "")
}
