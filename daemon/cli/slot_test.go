package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// newIdentity makes a home with an identity and nothing mounted.
func newIdentity(t *testing.T) *drive {
	t.Helper()
	d := newHome(t)
	d.init()
	return d
}

func slotID(t *testing.T, out string) string {
	t.Helper()
	m := regexp.MustCompile(`added slot ([0-9a-f]{8}) `).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no slot in %q", out)
	}
	return m[1]
}

func TestKeystoreSlots(t *testing.T) {
	t.Parallel()
	d := newIdentity(t)
	pass := []string{"--passfile", d.path("pass")}
	keystore := func(args ...string) []string { return append(append([]string{"keystore"}, args...), pass...) }
	d.write(d.path("pass2"), "battery staple\n")

	d.fails(ExitUsage, "keystore")
	d.fails(ExitUsage, "keystore", "slot", "remove")
	d.fails(ExitUsage, keystore("slot", "add")...)                              // nobody to ask
	d.fails(ExitUsage, keystore("slot", "add", "--key-out", d.path("pass"))...) // is there
	d.fails(ExitUsage, keystore("slot", "remove", "00000000")...)               // is not there
	d.fails(ExitRefused, "keystore", "slot", "add", "--key-out", d.path("key"), "--passfile", d.path("wrong"))
	d.fails(ExitRefused, "keystore", "slot", "add", "--key-out", d.path("pass"), "--passfile", d.path("wrong"))
	if _, err := os.Stat(d.path("key")); err == nil {
		t.Error("a key that opens nothing was left")
	}
	if b, err := os.ReadFile(d.path("pass")); err != nil || string(b) != "correct horse\n" {
		t.Fatalf("a file was overwritten or removed: %q, %v", b, err)
	}

	second := slotID(t, d.ok(keystore("slot", "add", "--new-passfile", d.path("pass2"), "--kdf-memory", "64", "--kdf-passes", "2")...))
	slotID(t, d.ok(keystore("slot", "add", "--key-out", d.path("key"))...))
	if st, err := os.Stat(d.path("key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	var slots []struct {
		ID, Kind string
		KDF      struct{ Time, Memory int }
	}
	if err := json.Unmarshal([]byte(d.ok("keystore", "slot", "list", "--json")), &slots); err != nil || len(slots) != 3 {
		t.Fatalf("%+v, %v", slots, err)
	}
	if s := slots[1]; s.ID != second || s.KDF.Time != 2 || s.KDF.Memory != 64<<10 || slots[2].Kind != "key" {
		t.Errorf("%+v", slots)
	}
	if text := d.ok("keystore", "slot", "list"); strings.Count(text, "\n") != 3 || !strings.Contains(text, second) {
		t.Errorf("%s", text)
	}
	for _, file := range []string{"pass2", "key"} {
		d.ok("login", "--passfile", d.path(file))
		d.ok("logout")
	}
	d.write(d.path("pass3"), "third\n")
	d.ok("keystore", "passwd", "--passfile", d.path("pass2"), "--new-passfile", d.path("pass3"))
	d.fails(ExitRefused, "login", "--passfile", d.path("pass2"))
	d.fails(ExitUsage, "keystore", "passwd", "--passfile", d.path("key"), "--new-passfile", d.path("pass2"))
	d.fails(ExitUsage, "keystore", "passwd", "--passfile", d.path("pass3"), "--new-passfile", d.path("key"))

	if err := json.Unmarshal([]byte(d.ok("keystore", "slot", "list", "--json")), &slots); err != nil {
		t.Fatal(err)
	}
	d.ok(keystore("slot", "remove", slots[1].ID)...)
	d.fails(ExitUsage, keystore("slot", "remove", slots[0].ID)...) // the last passphrase
	d.ok(keystore("slot", "remove", slots[0].ID, "--keys-alone")...)
	d.fails(ExitUsage, "keystore", "slot", "remove", slots[2].ID, "--keys-alone", "--passfile", d.path("key"))
	d.fails(ExitRefused, "login", "--passfile", d.path("pass"))
	d.ok("login", "--passfile", d.path("key"))
}

// A key in systemd's hands: made for a pipe, sealed by systemd-creds, and handed back in
// the credentials directory.
func TestKeystoreKeyAsCredential(t *testing.T) {
	t.Parallel()
	need(t, "systemd-creds")
	d := newIdentity(t)
	out, _, code := d.run("keystore", "slot", "add", "--key-out", "-", "--passfile", d.path("pass"))
	if code != ExitOK || !strings.HasPrefix(out, "ipfscloud-key-1-") || strings.Count(out, "\n") != 1 {
		t.Fatalf("exit %d, %q", code, out)
	}
	credentials := d.path("credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "systemd-creds", args...)
		cmd.Stdin = strings.NewReader(in)
		var problem strings.Builder
		cmd.Stderr = &problem
		b, err := cmd.Output()
		if err != nil {
			t.Skipf("systemd-creds seals nothing here: %v: %s", err, problem.String())
		}
		return string(b)
	}
	sealed := run(out, "encrypt", "--with-key=tpm2-absent", "--name=passphrase", "-", "-")
	if strings.Contains(sealed, "ipfscloud-key") {
		t.Fatal("not sealed")
	}
	d.write(filepath.Join(credentials, "passphrase"), run(sealed, "decrypt", "--name=passphrase", "-", "-"))
	d.env = append(d.env, "CREDENTIALS_DIRECTORY="+credentials)
	d.ok("login")
	d.ok("logout")
	d.ok("keystore", "check")
	// It is no new passphrase.
	d.fails(ExitUsage, "keystore", "passwd")
}

func TestKeystoreCheck(t *testing.T) {
	t.Parallel()
	d := newIdentity(t)
	check := []string{"keystore", "check", "--passfile", d.path("pass")}
	if text := d.ok(check...); strings.Contains(text, "DAMAGED") {
		t.Errorf("%s", text)
	}
	d.fails(ExitRefused, "keystore", "check", "--passfile", d.path("wrong"))
	path := filepath.Join(d.home.Keystore, "identity.keystore")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-100] ^= 4
	d.write(path, string(b))
	out, problem, code := d.run(check...)
	if code != ExitIntegrity || !strings.Contains(out, "DAMAGED  contents") || !strings.Contains(problem, "damaged") {
		t.Errorf("exit %d: %s%s", code, out, problem)
	}
	if problem := d.fails(ExitIntegrity, "login", "--passfile", d.path("pass")); !strings.Contains(problem, "keystore check") {
		t.Errorf("%s", problem)
	}
	d.write(path, string(b[:70]))
	if problem := d.fails(ExitIntegrity, "login", "--passfile", d.path("pass")); !strings.Contains(problem, "cut off after 70 bytes") {
		t.Errorf("%s", problem)
	}
}
