package auth

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// What anyone can add to the owner's log, and what a lost device can leave in the keyring of
// its last commit, does not stop a recovery.
func TestRecoverFromSpoiltEvidence(t *testing.T) {
	ctx := context.Background()
	b := newRobbed(t)
	last := b.log.Last()
	soon := time.Now().Add(23 * time.Hour).UTC().Format(time.RFC3339)
	for name, found := range map[string]Found{
		"a line that nobody has signed, of tomorrow": {DID: last.ID.String(), Log: append(b.log.Bytes(),
			fmt.Appendf(nil, `{"versionId":"%d-%s","versionTime":%q,"parameters":{},"state":{"id":%q},"proof":[{}]}`+"\n",
				b.log.Len()+1, b.log.SCID(), soon, last.ID)...)},
		"a line with another number": {DID: last.ID.String(), Log: append(b.log.Bytes(),
			fmt.Appendf(nil, `{"versionId":"99-%s","versionTime":%q,"parameters":{},"state":{"id":%q},"proof":[{}]}`+"\n", b.log.SCID(), soon, last.ID)...)},
		"notes of another version": {DID: last.ID.String(), Log: b.log.Bytes(), Notes: []byte("garbage")},
		"notes that are cut":       {DID: last.ID.String(), Log: b.log.Bytes(), Notes: []byte{notesVersion, 0xff}},
	} {
		var pass []byte
		to := t.TempDir()
		id, err := Recover(ctx, InitConfig{Dir: to, Passphrase: devicePass, Phrase: b.phrase, first: keyed(&pass)}, found)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		id.Phrase.Wipe()
		s, err := Login(ctx, to, pass)
		if err != nil {
			t.Errorf("%s: the login after it: %v", name, err)
			continue
		}
		if SelfCertifying(s.DID()) != SelfCertifying(last.ID.String()) {
			t.Errorf("%s: recovered %s", name, s.DID())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
