package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The commented file says all there is, and says it right.
func TestDefaultFile(t *testing.T) {
	b, err := os.ReadFile("../packaging/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckConfig("../packaging/config.toml"); err != nil {
		t.Errorf("as it is: %v", err)
	}
	live := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(string(b), "$1")
	path := writeConfig(t, live)
	got, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := DefaultConfig(); !reflect.DeepEqual(got, want) {
		t.Errorf("the file says %+v, the defaults are %+v", got, want)
	}
	settings, err := Settings(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if s.From != "file" {
			t.Errorf("%s is not in the file", s.Key)
		}
	}
}

func TestPrecedence(t *testing.T) {
	path := writeConfig(t, "memory_mib = 64\ndeadline = \"7s\"\n[egress]\nurl = [\"http://file:1\"]\nreplicas_max = 5\n")
	t.Setenv("IPFSCLOUD_EGRESS_URL", "http://a:1, https://b:2")
	t.Setenv("IPFSCLOUD_HORIZON_ENABLED", "false")
	t.Setenv("IPFSCLOUD_MEMORY_MIB", "128")
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.MemoryMiB != 128 || c.Deadline.String() != "7s" || c.Horizon.Enabled || c.Egress.ReplicasMax != 5 ||
		!reflect.DeepEqual(c.Egress.URL, []string{"http://a:1", "https://b:2"}) {
		t.Errorf("%+v", c)
	}
	from := map[string]string{}
	settings, err := Settings(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		from[s.Key] = s.From + " " + s.TOML()
	}
	for key, want := range map[string]string{
		"memory_mib": "environment 128", "deadline": `file "7s"`, "durability": `default "local"`,
		"egress.url": `environment ["http://a:1", "https://b:2"]`, "egress.replicas_max": "file 5", "horizon.enabled": "environment false",
	} {
		if from[key] != want {
			t.Errorf("%s is from %s, want %s", key, from[key], want)
		}
	}
	t.Setenv("IPFSCLOUD_MEMORY_MIB", "much")
	if _, err := LoadConfig(path); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "IPFSCLOUD_MEMORY_MIB") {
		t.Errorf("a bad variable: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for text, says := range map[string]string{
		"durabilty = \"local\"":                             "did you mean durability?",
		"[egress]\nreplica_min = 1":                         "did you mean egress.replicas_min?",
		"zzzz = 1":                                          "unknown key zzzz",
		"durability = \"egress\"":                           "egress:N",
		"memory_mib = 1":                                    "memory_mib",
		"memory_mib = \"x\"":                                "memory_mib",
		"deadline = \"1ms\"":                                "deadline",
		"deadline = \"soon\"":                               "deadline",
		"ipfs_auth_file = \"here\"":                         "absolute",
		"mount_options = \"nonsense\"":                      "nonsense",
		"[egress]\nurl = [\"ftp://x\"]":                     "ftp://x",
		"[egress]\nreplicas_min = 4\nreplicas_max = 2":      "replicas_min",
		"[egress]\nreplicas_min = -1":                       "-1",
		"[network]\nlisten = [\"here\"]":                    "network.listen",
		"[network]\nbootstrap = [\"/ip4/127.0.0.1/tcp/1\"]": "network.bootstrap",
		"[horizon]\nlisten = \"0.0.0.0:80\"":                "loopback",
		"[horizon]\nlisten = \"nonsense\"":                  "loopback",
		"this is no toml":                                   "config.toml",
	} {
		err := CheckConfig(writeConfig(t, text))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q gives %v, which should say %q", text, err, says)
		}
	}
}
