package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// storedKeystore is a keystore of format 1 as an earlier build wrote it: it must open for
// ever. Its passphrase is "open sesame", its phrase the one of 256 zero bits.
const storedKeystore = "testdata/v1.keystore"

var update = flag.Bool("update", false, "write a new "+storedKeystore)

func TestStoredKeystore(t *testing.T) {
	ctx := testContext(t)
	if *update {
		dir, _ := testIdentity(t, nil)
		err := change(ctx, dir, []byte("open sesame"), func(k *keystore, c *contents, master *secret, _ int) (bool, error) {
			fixed, err := deriveContents(testPhrase(t))
			if err != nil {
				return false, err
			}
			id, err := identify(ctx, did.NewKey(), "laptop", fixed)
			if err != nil {
				return false, err
			}
			if fixed.phrase, err = copySecret(make([]byte, phraseEntropy)); err != nil {
				return false, err
			}
			c.wipe()
			*c = *fixed
			k.did, k.device = id.DID, id.Device.ID
			k.slots[0], err = k.newSlot(master, []byte("open sesame"), cheap())
			return true, err
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, keystoreName))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(storedKeystore, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(storedKeystore)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keystoreName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Login(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	doc := formatDocument(t)
	if s.DID() != doc["DID"] || s.Device() != doc["device"] || s.ThisDevice().Name != "laptop" {
		t.Errorf("%s, %s, want the ones of FORMAT.md", s.DID(), s.Device())
	}
	p, err := RecoveryPhrase(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wipe()
	if strings.Join(p.Words(), " ") != zeroWords {
		t.Error("another phrase")
	}
}

// formatDocument reads the worked example out of FORMAT.md.
func formatDocument(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| ([^|`]+) \\| `([^`]+)` \\|$").FindAllStringSubmatch(string(text), -1) {
		values[m[1]] = m[2]
	}
	return values
}

func TestFormatExample(t *testing.T) {
	doc := formatDocument(t)
	p := testPhrase(t)
	hexOf := func(b []byte) string { return hex.EncodeToString(b) }
	derived := func(label string) *secret {
		s, err := p.derive(label)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.wipe)
		return s
	}
	hash := func(label string) string {
		public, err := agreementPublic(derived(label))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(public)
		return hexOf(sum[:])
	}
	_, id := testIdentity(t, p)
	name, err := ipnsName(signingPublic(derived(labelPublishing)))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"phrase":                              strings.Join(p.Words(), " "),
		"signing seed":                        hexOf(derived(labelSigning).bytes()),
		"agreement seed":                      hexOf(derived(labelAgreement).bytes()),
		"recovery seed":                       hexOf(derived(labelRecovery).bytes()),
		"publishing seed":                     hexOf(derived(labelPublishing).bytes()),
		"update seed":                         hexOf(derived(labelUpdate).bytes()),
		"recovery signing seed":               hexOf(derived(labelRecover).bytes()),
		"IPNS name":                           name,
		"signing key":                         hexOf(id.Device.Signing),
		"SHA-256 of the agreement public key": hash(labelAgreement),
		"SHA-256 of the recovery public key":  hash(labelRecovery),
		"DID":                                 id.DID,
		"device":                              deviceID(id.Device.Signing),
	} {
		if doc[name] != got {
			t.Errorf("FORMAT.md, %s: %q, computed %q", name, doc[name], got)
		}
	}
	b, err := os.ReadFile(storedKeystore)
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKeystore(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.encode(), b) {
		t.Error("the stored keystore encodes to other bytes")
	}
}

// storedWebVH is a keystore of format 2 with its log, as an earlier build wrote them: they
// must open for ever.
const storedWebVH = "testdata/v2"

func TestStoredWebVH(t *testing.T) {
	ctx := testContext(t)
	if *update {
		dir, made := testWebVH(t)
		// The identity of a phrase that everybody knows: restored, before it is confirmed.
		p := testPhrase(t)
		c, err := deriveContents(p)
		if err != nil {
			t.Fatal(err)
		}
		defer c.wipe()
		seed, err := p.derive(labelUpdate)
		if err != nil {
			t.Fatal(err)
		}
		defer seed.wipe()
		cfg := InitConfig{Dir: filepath.Dir(dir), Passphrase: []byte("open sesame"), DeviceName: "laptop", KDF: cheap()}
		id, err := found(ctx, LogMethod(cfg.Dir), cfg, p, c, seed)
		if err != nil || id.DID == made.DID {
			t.Fatal(err)
		}
		if err := store(cfg, formatLog, id, c, seed); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{keystoreName, logName} {
			b, err := os.ReadFile(filepath.Join(cfg.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(storedWebVH, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(storedWebVH)); err != nil {
		t.Fatal(err)
	}
	s, err := Login(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	doc := formatDocument(t)
	if s.Device() != doc["device"] || !strings.HasSuffix(s.DID(), ":"+doc["IPNS name"]+".ipns."+DefaultGateway) {
		t.Errorf("%s, %s, want the ones of FORMAT.md", s.DID(), s.Device())
	}
	// The log goes on with the key that it committed to.
	changed(t, dir, func(*did.Change) {})
	if _, v, err := s.Log(ctx); err != nil || !strings.HasPrefix(v, "2-") {
		t.Errorf("version %s, %v", v, err)
	}
	b, err := os.ReadFile(filepath.Join(storedWebVH, keystoreName))
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKeystore(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.encode(), b) {
		t.Error("the stored keystore encodes to other bytes")
	}
}
