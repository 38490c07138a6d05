package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

type keptClaim struct {
	Handle string
	Holds  bool
	Reason string
	JWT    string
	Claim  struct {
		Issuer, Subject string
		Types           []string
		Claims          map[string]any
	}
}

// Two people claim things about themselves and about each other.
func TestClaims(t *testing.T) {
	t.Parallel()
	ann, bob := newHome(t), newHome(t)
	for _, d := range []*drive{ann, bob} {
		d.init()
	}
	ann.says(ExitRefused, "login", "id", "claim", "list")
	for _, d := range []*drive{ann, bob} {
		d.login()
	}
	annDID, bobDID := ann.whoami().DID, bob.whoami().DID
	annLog := filepath.Join(ann.home.Keystore, "did.jsonl")

	// About oneself.
	var self keptClaim
	ann.json(&self, "id", "claim", "self", "name=Ann \x1b[31m", "--claim-type", "NameCredential", "--json")
	if !self.Holds || self.Claim.Issuer != annDID || self.Claim.Subject != annDID || self.Claim.Claims["name"] != "Ann \x1b[31m" || self.Claim.Types[0] != "NameCredential" {
		t.Errorf("self-signed: %+v", self)
	}
	if out := ann.ok("id", "claim", "list"); !strings.Contains(out, self.Handle) || !strings.Contains(out, "self-signed") || strings.Contains(out, "\x1b") {
		t.Errorf("list: %q", out)
	}

	// About somebody else, who keeps it.
	bob.write(bob.path("claim"), ann.ok("id", "claim", "issue", bobDID, "member=yes", "--days", "30"))
	bob.says(ExitUnavailable, "resolving", "id", "claim", "add", bob.path("claim")) // ann's log is nowhere to be had
	var got keptClaim
	bob.json(&got, "id", "claim", "add", bob.path("claim"), "--log", annLog, "--json")
	if !got.Holds || got.Claim.Issuer != annDID || got.Claim.Subject != bobDID || got.Claim.Claims["member"] != "yes" {
		t.Errorf("issued: %+v", got)
	}
	ann.says(ExitIntegrity, "another subject", "id", "claim", "add", bob.path("claim"))
	if out := ann.ok("id", "claim", "verify", bob.path("claim")); !strings.Contains(out, "by "+annDID) || !strings.Contains(out, "member: yes") {
		t.Errorf("verify: %q", out)
	}
	jwt := strings.TrimSpace(bob.readFile(bob.path("claim")))
	bob.write(bob.path("forged"), jwt[:len(jwt)-8]+"AAAAAAAA")
	bob.says(ExitIntegrity, "does not verify", "id", "claim", "add", bob.path("forged"), "--log", annLog)
	bob.write(bob.path("text"), "no claim at all")
	bob.says(ExitIntegrity, "JWT", "id", "claim", "verify", bob.path("text"))
	var list []keptClaim
	bob.json(&list, "id", "claim", "list", "--json", "--log", annLog)
	if len(list) != 1 || !list[0].Holds || list[0].JWT != jwt {
		t.Errorf("list: %+v", list)
	}
	// The issuer's log is known from then on, and nobody has to be asked.
	bob.json(&list, "id", "claim", "list", "--json")
	if len(list) != 1 || !list[0].Holds {
		t.Errorf("list, by the log that is remembered: %+v", list)
	}
	if kept := bob.readFile(filepath.Join(bob.home.Keystore, "claims")); strings.Contains(kept, jwt[:40]) {
		t.Error("the claims lie in the clear")
	}
	bob.ok("id", "claim", "remove", got.Handle)
	bob.says(ExitNotFound, "no such claim", "id", "claim", "remove", got.Handle)

	// A domain says that it is ann's.
	file := bob.path("did-configuration.json")
	bob.write(file, ann.ok("id", "domain", "link", "https://ann.example"))
	var parsed struct {
		Linked []string `json:"linked_dids"`
	}
	if err := json.Unmarshal([]byte(bob.readFile(file)), &parsed); err != nil || len(parsed.Linked) != 1 {
		t.Errorf("the file: %+v, %v", parsed, err)
	}
	if out := bob.ok("id", "domain", "verify", "ann.example", "--file", file, "--log", annLog, "--did", annDID); strings.TrimSpace(out) != annDID {
		t.Errorf("linked is %q", out)
	}
	bob.says(ExitIntegrity, "not linked", "id", "domain", "verify", "https://bob.example", "--file", file, "--log", annLog)
	bob.says(ExitIntegrity, "another subject", "id", "domain", "verify", "ann.example", "--file", file, "--log", annLog, "--did", bobDID)
	bob.says(ExitUnavailable, "reached", "id", "domain", "verify", "ann.invalid")
	bob.says(ExitUsage, "origin", "id", "domain", "link", "ftp://ann.example")
	bob.says(ExitUsage, "NAME=VALUE", "id", "claim", "self", "id=x")
	bob.says(ExitUsage, "DID", "id", "claim", "issue", "somebody", "x=y")
	bob.says(ExitUsage, "want claim", "id", "claim", "eat")
	for _, d := range []*drive{ann, bob} {
		d.ok("logout")
	}
}
