package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// initCommand makes an identity.
type initCommand struct {
	pass      passSource
	method    string
	domain    string
	phraseOut string
	phraseIn  string
	kdf       kdfFlags
}

func (c *initCommand) flags(f *flag.FlagSet) {
	c.pass.flags(f)
	f.StringVar(&c.method, "did", "", "DID `METHOD` of the identity: webvh (the default: more devices, recovery, rotation) or key (fixed for good)")
	f.StringVar(&c.method, "method", "", "the same as --did")
	f.StringVar(&c.domain, "domain", "", "make a did:webvh of a `DOMAIN` of your own, such as example.com or example.com:ada")
	f.StringVar(&c.phraseOut, "phrase-out", "", "write the recovery phrase to `FILE`, which must not exist")
	f.StringVar(&c.phraseIn, "phrase-in", "", "restore the identity of the recovery phrase in `FILE` (- asks for it)")
	c.kdf.flags(f, "")
}

func (c *initCommand) parse(args []string) error {
	if c.phraseIn != "" && c.phraseOut != "" {
		return fmt.Errorf("%w: --phrase-in and --phrase-out exclude each other", errUsage)
	}
	switch c.method {
	case "", "webvh", "key":
	default:
		return fmt.Errorf("%w: an identity is made with the method webvh or key, not %q", errUsage, c.method)
	}
	if c.domain != "" && (c.method == "key" || c.phraseIn != "") {
		return fmt.Errorf("%w: --domain is for a new did:webvh", errUsage)
	}
	if err := c.kdf.check(); err != nil {
		return err
	}
	return noArgs(args)
}

func (c *initCommand) run(ctx context.Context, e *env) error {
	did, pass, err := c.create(ctx, e)
	if err != nil {
		return err
	}
	clear(pass)
	if did == "" {
		fmt.Fprintln(e.err, "Nothing of this phrase is here yet. Its identity is found at the next login, once there is a place to look:")
		fmt.Fprintln(e.err, "`ipfscloud egress use URL`, or a copy of the IPFS repo in", e.home.IPFS)
		return nil
	}
	fmt.Fprintln(e.out, did)
	return nil
}

// create makes the identity and returns its DID and its passphrase, which the caller
// clears. The DID is empty if it is to be found yet.
func (c *initCommand) create(ctx context.Context, e *env) (did string, pass []byte, err error) {
	if s, err := auth.Inspect(e.home.Keystore); err == nil {
		if s.DID == "" {
			s.DID = "an identity that is not found yet"
		}
		return "", nil, fmt.Errorf("%s in %s: %w", s.DID, e.home.Keystore, auth.ErrExist)
	} else if !errors.Is(err, auth.ErrNoIdentity) {
		return "", nil, err
	}
	if c.phraseIn == "" && c.phraseOut == "" && !e.terminal() {
		return "", nil, fmt.Errorf("%w: without a terminal an identity is made only with --phrase-out FILE, or nobody would know its recovery phrase", errUsage)
	}
	out, err := newOutFile("--phrase-out", c.phraseOut)
	if err != nil {
		return "", nil, err
	}
	defer out.discard()
	id, pass, err := c.make(ctx, e)
	defer func() {
		if err != nil {
			clear(pass)
		}
	}()
	if err != nil {
		return "", nil, err
	}
	if id.Phrase == nil { // restored: its owner has the phrase
		return id.DID, pass, nil
	}
	defer id.Phrase.Wipe()
	if out != nil {
		if err := out.write(phraseLine(id.Phrase.Words())); err != nil {
			return "", nil, fmt.Errorf("writing the recovery phrase; `ipfscloud id phrase` shows it: %w", err)
		}
	} else if err := e.showPhrase(id.Phrase.Words()); err != nil {
		fmt.Fprintln(e.err, "The recovery phrase was not confirmed:", err)
		fmt.Fprintln(e.err, "`ipfscloud id phrase` shows it again. Until then the drive is not recoverable.")
		return id.DID, pass, nil
	}
	return id.DID, pass, auth.ConfirmPhrase(ctx, e.home.Keystore, pass)
}

// make reads the phrase, if there is one, and the passphrase, and makes the identity.
func (c *initCommand) make(ctx context.Context, e *env) (id *auth.Identity, pass []byte, err error) {
	cfg := auth.InitConfig{Dir: e.home.Keystore, Method: c.method, Domain: c.domain, KDF: c.kdf.kdf()}
	cfg.DeviceName = deviceName()
	if c.phraseIn != "" {
		if cfg.Phrase, err = c.readPhrase(e); err != nil {
			return nil, nil, err
		}
		defer cfg.Phrase.Wipe()
	}
	if pass, err = c.pass.get(e, "New passphrase", true); err != nil {
		return nil, nil, err
	}
	cfg.Passphrase = pass
	if cfg.Phrase != nil && c.method != "key" {
		id, err = e.restore(ctx, cfg)
		if errors.Is(err, daemon.ErrIdentityNotFound) {
			id, err = &auth.Identity{}, auth.Await(ctx, cfg)
		}
		return id, pass, err
	}
	id, err = auth.Init(ctx, cfg)
	return id, pass, err
}

// phraseLine is a phrase as it stands in a file.
func phraseLine(words []string) []byte { return []byte(strings.Join(words, " ") + "\n") }

// deviceName is a name for people; none is fine too.
func deviceName() string {
	name, _ := os.Hostname()
	return strings.ToValidUTF8(name[:min(len(name), 64)], "")
}

func (c *initCommand) readPhrase(e *env) (*auth.Phrase, error) { return e.readPhrase(c.phraseIn) }

// readPhrase reads a phrase from a file, or with "-" from the terminal or standard input.
func (e *env) readPhrase(from string) (*auth.Phrase, error) {
	if from == "-" && e.terminal() {
		b, err := e.askSecret("The 24 words (not shown): ")
		if err != nil {
			return nil, err
		}
		defer clear(b)
		return auth.ParsePhrase(b)
	}
	var b []byte
	var err error
	if from != "-" {
		if b, err = safefile.ReadSecret(from, passMax); err != nil {
			return nil, fmt.Errorf("%w: recovery phrase: %w", errUsage, err)
		}
	} else if b, err = io.ReadAll(io.LimitReader(e.in, passMax)); err != nil {
		return nil, fmt.Errorf("reading the recovery phrase: %w", err)
	}
	defer clear(b)
	return auth.ParsePhrase(b)
}

// showPhrase shows the words on the alternate screen, which leaves no trace in the
// terminal's history, and asks two of them back.
func (e *env) showPhrase(words []string) error {
	leave := func() { e.err.obey(leaveScreen) }
	defer leave()
	defer undoOnSignal(leave)()
	e.err.obey(enterScreen)
	fmt.Fprint(e.err, "Your recovery phrase. Write it down, on paper. Who has it, has the drive;\nwithout it and without the passphrase, nobody has.\n\n")
	for i, w := range words {
		fmt.Fprintf(e.err, "  %2d. %-12s", i+1, w)
		if i%4 == 3 {
			fmt.Fprintln(e.err)
		}
	}
	if _, err := e.ask("\nPress Enter when you have it. "); err != nil {
		return err
	}
	e.err.obey(clearScreen)
	order := rand.Perm(len(words))
	for _, i := range order[:2] {
		got, err := e.ask(fmt.Sprintf("Word %d: ", i+1))
		if err != nil {
			return err
		}
		if !strings.EqualFold(got, words[i]) {
			return fmt.Errorf("word %d is another one: %w", i+1, auth.ErrPhrase)
		}
	}
	return nil
}

// idCommand shows the identity.
type idCommand struct {
	pass passSource
	json bool
	what string
	did  string

	log, witness string // files
	version      daemon.ResolveOptions
	change       idChange
	publish      idPublish
	claim        idClaim
	login        idLogin
}

func (c *idCommand) flags(f *flag.FlagSet) {
	c.pass.flags(f)
	f.BoolVar(&c.json, "json", false, "print JSON; of a resolution, the result also when it fails")
	c.change.flags(f)
	c.publish.flags(f)
	c.claim.flags(f)
	c.login.flags(f)
	f.StringVar(&c.log, "log", "", "resolve; claim add, verify (of the issuer); domain verify: verify the log of a did:webvh in `FILE`, without any network")
	f.StringVar(&c.witness, "witness", "", "resolve: `FILE` with the proofs of its witnesses")
	f.StringVar(&c.version.VersionID, "version-id", "", "resolve: the version with this `ID`")
	f.StringVar(&c.version.VersionTime, "version-time", "", "resolve: the version of a `TIME`, as 2026-01-31T12:00:00Z")
	f.StringVar(&c.version.VersionNumber, "version-number", "", "resolve: version `N`, counted from 1")
}

func (c *idCommand) parse(args []string) error {
	if len(args) > 0 && c.change.takes(args[0]) {
		c.what = args[0]
		return c.change.parse(args)
	}
	if len(args) > 0 && c.claim.takes(args[0]) {
		c.what = args[0]
		return c.claim.parse(args)
	}
	if len(args) > 0 && args[0] == "login" {
		c.what = args[0]
		return c.login.parse(args)
	}
	switch {
	case len(args) == 1 && args[0] == "publish":
		c.what, c.publish.domain = args[0], c.change.domain
	case len(args) == 1 && (args[0] == "show" || args[0] == "phrase"):
		c.what = args[0]
	case len(args) == 2 && args[0] == "resolve":
		c.what, c.did = args[0], args[1]
		if c.witness != "" && c.log == "" {
			return fmt.Errorf("%w: --witness goes with --log; else both files are fetched", errUsage)
		}
	default:
		return fmt.Errorf("%w: want %s", errUsage, idWords)
	}
	return nil
}

func (c *idCommand) run(ctx context.Context, e *env) error {
	switch c.what {
	case "resolve":
		return c.resolve(ctx, e)
	case "phrase":
		return c.phrase(ctx, e)
	case "claim", "domain":
		return c.claim.run(ctx, e, c.log, c.json)
	case "login":
		return c.login.run(ctx, e, c.json)
	case "publish":
		return c.publish.run(ctx, e, &c.pass, c.json)
	case "show":
	default:
		return c.change.run(ctx, e, &c.pass, c.json)
	}
	s, err := auth.Inspect(e.home.Keystore)
	if err != nil {
		return err
	}
	if s.DID == "" {
		return auth.ErrAwaits
	}
	id := auth.PresentDID(ctx, e.home.Keystore, s.DID)
	public, err := daemon.ReadPublication(e.home)
	if err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(map[string]any{"did": id, "device": s.Device, "phrase_pending": s.PhrasePending,
			"moved": auth.MovedStatement(e.home.Keystore), "published": public})
	}
	fmt.Fprintln(e.out, "did:   ", id)
	fmt.Fprintln(e.out, "device:", s.Device)
	if public != nil {
		fmt.Fprintf(e.out, "published: version %s under /ipns/%s, until %s\n", public.Version, public.Name, public.Until.Local().Format(time.DateTime))
		if public.Problem != "" {
			e.out.Println("not renewed:", public.Problem)
		}
	}
	if s.PhrasePending {
		fmt.Fprintln(e.out, "not recoverable yet: write down the phrase of `ipfscloud id phrase`")
	}
	return nil
}

// maxDIDFile is the largest log or witness file that is read, in bytes.
const maxDIDFile = 64 << 20

// resolve prints the result of a resolution. A failure is told by its name, as other
// programs know it, and its reason.
func (c *idCommand) resolve(ctx context.Context, e *env) error {
	o := c.version
	o.Home = e.home
	if c.log == "" {
		var err error
		if o.Config, err = e.config(); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		path string
		to   *[]byte
	}{{c.log, &o.Log}, {c.witness, &o.Witness}} {
		if f.path == "" {
			continue
		}
		st, err := os.Stat(f.path)
		if err == nil && st.Size() > maxDIDFile {
			err = fmt.Errorf("%s has %d bytes, too many for a log", f.path, st.Size())
		}
		if err == nil {
			*f.to, err = os.ReadFile(f.path)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if *f.to == nil {
			*f.to = []byte{}
		}
	}
	r, err := daemon.ResolveDID(ctx, c.did, o)
	if err == nil || c.json {
		b, jsonErr := json.Marshal(r)
		if jsonErr != nil {
			return errors.Join(err, jsonErr)
		}
		fmt.Fprintln(e.out, string(b))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", daemon.DIDErrorName(err), err)
	}
	return nil
}

func (c *idCommand) phrase(ctx context.Context, e *env) error {
	if !e.terminal() {
		return fmt.Errorf("%w: the recovery phrase is shown on a terminal only", errUsage)
	}
	pass, err := c.pass.get(e, "Passphrase", false)
	if err != nil {
		return err
	}
	defer clear(pass)
	p, err := auth.RecoveryPhrase(ctx, e.home.Keystore, pass)
	if err != nil {
		return err
	}
	defer p.Wipe()
	if err := e.showPhrase(p.Words()); err != nil {
		return err
	}
	return auth.ConfirmPhrase(ctx, e.home.Keystore, pass)
}
