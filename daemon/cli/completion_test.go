package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// completed is what a shell offers after a command line, whose last word is incomplete.
type completed func(t *testing.T, script string, line []string) []string

// run runs a shell in a directory with a file and a directory.
func (completed) run(t *testing.T, shell string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"HOME=" + cmd.Dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TERM=dumb"}
	if err := os.Mkdir(filepath.Join(cmd.Dir, "adir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cmd.Dir, "afile"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", shell, err, out)
	}
	lines := []string{}
	for _, l := range strings.Split(string(out), "\n") {
		if l = strings.TrimRight(l, " /"); l != "" {
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// Each shell offers the commands, their words, options and values, from the one table.
func TestCompletion(t *testing.T) {
	t.Parallel()
	var f completed
	shells := map[string]completed{
		"bash": func(t *testing.T, script string, line []string) []string {
			return f.run(t, "bash", append([]string{"--norc", "-euc", `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
				compopt() { :; }; _ipfscloud; printf '%s\n' "${COMPREPLY[@]}"`, script}, line...)...)
		},
		// The function runs with stand-ins for those that show what it offers.
		"zsh": func(t *testing.T, script string, line []string) []string {
			return f.run(t, "zsh", append([]string{"-fc", `script=$1; shift; words=("$@"); CURRENT=$#
				_describe() { local w; for w in "${(@P)argv[-1]}"; do w=${w//\\:/@}; w=${w%%:*}; w=${w//@/:}; [[ $w == ${words[CURRENT]}* ]] && print -r -- $w; done; true }
				_files() { local -a found; if [[ $1 == -/ ]]; then found=(*(N/)); else found=(*(N)); fi; print -rl -- $found }
				source $script`, "zsh", script}, line...)...)
		},
		"fish": func(t *testing.T, script string, line []string) []string {
			out := f.run(t, "fish", "--no-config", "-c", `source $argv[1]; complete -C "$argv[2]" | cut -f1`, script, strings.Join(line, " "))
			return out
		},
	}
	var commands []string
	for _, e := range entries() {
		if !e.hidden {
			commands = append(commands, e.name)
		}
	}
	commands = append(commands, "help")
	slices.Sort(commands)
	for shell, ask := range shells {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			need(t, shell)
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(completionScript(shell)(completions())), 0o600); err != nil {
				t.Fatal(err)
			}
			for line, want := range map[string][]string{
				"ipfscloud ":                                commands,
				"ipfscloud um":                              {"umount"},
				"ipfscloud help mo":                         {"mount"},
				"ipfscloud id cl":                           {"claim"},
				"ipfscloud id claim ":                       {"add", "issue", "list", "remove", "self", "verify"},
				"ipfscloud id --json service ":              {"add", "remove"},
				"ipfscloud keystore slot ":                  {"add", "list", "remove"},
				"ipfscloud egress use ":                     {"local", "none"},
				"ipfscloud mount --dur":                     {"--durability"},
				"ipfscloud mount --durability ":             {"egress:2", "ipfs", "local"},
				"ipfscloud mount --durability local ":       {"adir"},
				"ipfscloud mount -d ":                       {"adir"},
				"ipfscloud mount --config ":                 {"adir", "afile"},
				"ipfscloud init --did ":                     {"key", "webvh"},
				"ipfscloud config check ":                   {"adir", "afile"},
				"ipfscloud status ":                         {},
				"ipfscloud mount --ready":                   {}, // internal
				"ipfscloud device approve afile --answer-o": {"--answer-out"},
			} {
				if got := ask(t, script, strings.Split(line, " ")); !slices.Equal(got, want) {
					t.Errorf("%q offers %q, want %q", line, got, want)
				}
			}
		})
	}
	if d := (&drive{t: t}); !strings.Contains(d.ok("completion", "bash"), "complete -F") {
		t.Error("the command prints no script")
	}
}
