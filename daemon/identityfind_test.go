package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
)

// testKeys is a keystore with its log.
type testKeys struct {
	t   *testing.T
	dir string
}

func (k testKeys) copy() testKeys {
	k.t.Helper()
	to := testKeys{k.t, filepath.Join(k.t.TempDir(), "keystore")}
	if err := os.CopyFS(to.dir, os.DirFS(k.dir)); err != nil {
		k.t.Fatal(err)
	}
	return to
}

func (k testKeys) rotate(times int) testKeys {
	k.t.Helper()
	for range times {
		if _, err := auth.Rotate(context.Background(), k.dir, thiefPass); err != nil {
			k.t.Fatal(err)
		}
	}
	return k
}

func (k testKeys) clue(id string) clue {
	k.t.Helper()
	log := auth.OwnLog(k.dir, id)
	if log == nil {
		k.t.Fatal("no log")
	}
	return clue{source: k.dir, log: log}
}

// Of all logs of a DID that are found, the one that its owner has the last word in counts,
// in whatever order they come: not a thief's who has made more versions with a device's key,
// and none from before a recovery or before the DID was given up.
func TestWhichLogCounts(t *testing.T) {
	ctx := context.Background()
	first := testKeys{t, filepath.Join(t.TempDir(), "keystore")}
	id, err := auth.Init(ctx, auth.InitConfig{Dir: first.dir, Passphrase: thiefPass, KDF: lightKDF(), DeviceName: "first"})
	if err != nil {
		t.Fatal(err)
	}
	defer id.Phrase.Wipe()
	thief := first.copy().rotate(4)
	older := first.copy()
	first.rotate(1)

	gone := first.copy()
	if _, err := auth.Deactivate(ctx, gone.dir, thiefPass, id.Phrase); err != nil {
		t.Fatal(err)
	}
	saved := testKeys{t, filepath.Join(t.TempDir(), "keystore")}
	got, err := auth.Recover(ctx, auth.InitConfig{Dir: saved.dir, Passphrase: thiefPass, KDF: lightKDF(), Phrase: id.Phrase},
		auth.Found{DID: id.DID, Log: auth.OwnLog(first.dir, id.DID)})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Phrase.Wipe()

	for name, c := range map[string]struct {
		logs   []testKeys
		phrase *auth.Phrase
		want   testKeys
	}{
		"the newest":                  {[]testKeys{older, first}, id.Phrase, first},
		"given up":                    {[]testKeys{first, gone, older}, id.Phrase, gone},
		"given up, and a thief":       {[]testKeys{first, thief, gone}, id.Phrase, gone},
		"recovered":                   {[]testKeys{first, saved, older}, got.Phrase, saved},
		"recovered, and a thief":      {[]testKeys{thief, first, saved}, got.Phrase, saved},
		"recovered, with the old one": {[]testKeys{older, saved, first}, id.Phrase, saved},
	} {
		for i := range c.logs {
			var all []clue
			for j := range c.logs {
				all = append(all, c.logs[(i+j)%len(c.logs)].clue(id.DID))
			}
			f, err := judge(ctx, all, c.phrase, slog.New(slog.DiscardHandler))
			if err != nil || f.Source != c.want.dir {
				t.Errorf("%s, from the %dth on: %+v, %v", name, i, f, err)
			}
		}
	}
	// With the old phrase nobody begins another history beside the recovered one.
	if _, err := auth.Recover(ctx, auth.InitConfig{Dir: filepath.Join(t.TempDir(), "x"), Passphrase: thiefPass, KDF: lightKDF(), Phrase: id.Phrase},
		auth.Found{DID: id.DID, Log: auth.OwnLog(saved.dir, id.DID)}); !errors.Is(err, auth.ErrPhrase) {
		t.Errorf("the old phrase: %v", err)
	}
}
