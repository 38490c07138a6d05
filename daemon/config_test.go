package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
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
	got, err := Home{Config: path}.LoadConfig()
	if err != nil {
		t.Fatal(err)
	}
	if want := DefaultConfig(); !reflect.DeepEqual(got, want) {
		t.Errorf("the file says %+v, the defaults are %+v", got, want)
	}
	settings, err := Home{Config: path}.Settings()
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
	c, err := Home{Config: path}.LoadConfig()
	if err != nil {
		t.Fatal(err)
	}
	if c.MemoryMiB != 128 || c.Deadline.String() != "7s" || c.Horizon.Enabled || c.Egress.ReplicasMax != 5 ||
		!reflect.DeepEqual(c.Egress.URL, []string{"http://a:1", "https://b:2"}) {
		t.Errorf("%+v", c)
	}
	from := map[string]string{}
	settings, err := Home{Config: path}.Settings()
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
	if _, err := (Home{Config: path}).LoadConfig(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "IPFSCLOUD_MEMORY_MIB") {
		t.Errorf("a bad variable: %v", err)
	}
}

// Several drives have one file: what one does not set for itself is as for all, but where
// it is mounted.
func TestDrives(t *testing.T) {
	path := writeConfig(t, `mountpoint = "/srv/first"
cache_mib = 100
[egress]
url = ["http://all:1"]
peers = ["a", "b"]
[horizon]
enabled = false
[drive.work]
mountpoint = "/srv/work"
durability = "ipfs"
[drive.work.egress]
peers = ["c"]
[drive.play.network]
upload_kib = 7
`)
	t.Setenv("IPFSCLOUD_DEADLINE", "9s")
	load := func(drive string) Config {
		t.Helper()
		c, err := Home{Drive: drive, Config: path}.LoadConfig()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	shared := func(change func(*Config)) Config {
		c := DefaultConfig()
		c.CacheMiB, c.Egress.URL, c.Egress.Peers, c.Horizon.Enabled = 100, []string{"http://all:1"}, []string{"a", "b"}, false
		c.Deadline = duration{9 * time.Second}
		change(&c)
		return c
	}
	for drive, want := range map[string]Config{
		"":     shared(func(c *Config) { c.Mountpoint = "/srv/first" }),
		"work": shared(func(c *Config) { c.Mountpoint, c.Durability, c.Egress.Peers = "/srv/work", "ipfs", []string{"c"} }),
		"play": shared(func(c *Config) { c.Network.UploadKiB = 7 }),
		"none": shared(func(*Config) {}),
	} {
		if got := load(drive); !reflect.DeepEqual(got, want) {
			t.Errorf("drive %q: %+v, want %+v", drive, got, want)
		}
	}
	settings, err := Home{Drive: "work", Config: path}.Settings()
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]string{}
	for _, s := range settings {
		from[s.Key] = s.From
	}
	for key, want := range map[string]string{"mountpoint": "drive.work", "egress.peers": "drive.work", "egress.url": "file", "deadline": "environment", "ipfs": "default"} {
		if from[key] != want {
			t.Errorf("%s is from %q, want %q", key, from[key], want)
		}
	}
}

// The homes of drives do not meet, but for the file and the nodes of this machine.
func TestHomesOfDrives(t *testing.T) {
	t.Setenv(HomeEnv, "/h")
	first, err := FindHome()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(DriveEnv, "work")
	work, err := FindHome()
	if err != nil {
		t.Fatal(err)
	}
	if want := (Home{Drive: "work", Config: first.Config, Egress: first.Egress, Keystore: "/h/drives/work/keystore", State: "/h/drives/work/state",
		Journal: "/h/drives/work/journal", Staging: "/h/drives/work/staging", Cache: "/h/drives/work/cache", IPFS: "/h/drives/work/ipfs", Run: "/h/drives/work/run"}); work != want {
		t.Errorf("%+v, want %+v", work, want)
	}
	for _, bad := range []string{"..", "a/b", "A", "-x", strings.Repeat("x", 33)} {
		t.Setenv(DriveEnv, bad)
		if _, err := FindHome(); !errors.Is(err, ErrConfig) {
			t.Errorf("a drive called %q: %v", bad, err)
		}
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
		"[drive.work]\ndurabilty = \"ipfs\"":                "unknown key drive.work.durabilty (did you mean durability?)",
		"[drive.work.egress]\nurl = [\"ftp://x\"]":          "[drive.work]: egress.url",
		"[drive.work]\nmemory_mib = \"x\"":                  "[drive.work]",
		"[drive.work]\nmountpoint = \"Work\"":               "absolute",
		"[drive.work.drive.more]\ndurability = \"ipfs\"":    "a drive has no drives",
		"[drive.Work]\ndurability = \"ipfs\"":               "small letters",
		"[[drive]]\nmountpoint = \"/x\"":                    "drive",
		"[drive]\nwork = 1":                                 "[drive.work]",
		"drive = 1":                                         "drive",
		"mountpoint = \"here\"":                             "absolute",
		"[network]\nlisten = [\"here\"]":                    "network.listen",
		"[network]\ndid_private = [\"inside\"]":             "network.did_private",
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
