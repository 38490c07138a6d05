package cli

import (
	"bufio"
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
	"github.com/cluster-labs/ipfscloud/daemon/browsertest"
)

// loginDemo builds and starts contrib/login-demo, and returns its origin and what reads its log.
func loginDemo(t *testing.T) (origin string, log func() string) {
	t.Helper()
	need(t, "go")
	program := filepath.Join(t.TempDir(), "login-demo")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "../../contrib/login-demo").CombinedOutput(); err != nil {
		t.Fatalf("building the demo: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log")
	stderr, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	origin, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal("the demo does not say where it listens: ", err)
	}
	return strings.TrimSpace(origin), func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// A site's user, from the site's page in a real browser to being logged in there.
func TestLoginDemo(t *testing.T) {
	d := newIdentity(t)
	d.login()
	d.ok("id", "claim", "self", "name=Ada", "shoe=39")
	origin, _ := loginDemo(t)
	b := browsertest.Open(t, 1200, 1400)
	b.Excuse("favicon.ico")
	b.Goto(origin, "#who")
	if who := b.Text("#who"); who != "Nobody" {
		t.Fatal(who)
	}
	ask := func() string {
		t.Helper()
		b.Goto(origin+"/login/", "#request")
		return b.Text("#request")
	}

	// The owner sees who asks for what, and says no.
	x, cmd := d.onTerminal(t, "id", "login", ask())
	x.expect(origin + ` asks who you are`)
	x.expect(`would like to know: name`)
	x.expect(`Log in there\? \[y/N\] `)
	x.enter("")
	x.expect(`said no`)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != ExitRefused {
		t.Errorf("no: %v", err)
	}

	// And yes.
	x, cmd = d.onTerminal(t, "id", "login", ask())
	x.expect(`Log in there\? \[y/N\] `)
	x.enter("y")
	x.expect(`shoe: 39`)
	x.expect(`Tell all of it\? \[y/N\] `)
	x.enter("y")
	link, _ := x.expect(`http://127\.0\.0\.1:[0-9]+/login/finish\?code=[A-Z0-9]+`)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	id, err := auth.Inspect(d.home.Keystore)
	if err != nil {
		t.Fatal(err)
	}
	b.Goto(link[0], ".claim")
	if who := b.Text("#who"); who != "You are "+auth.SelfCertifying(id.DID) {
		t.Errorf("%s", who)
	}
	if said := b.Text(".claim"); !strings.Contains(said, "name:Ada") {
		t.Errorf("%s", said)
	}
	b.Goto(origin, "#who")
	if who := b.Text("#who"); !strings.HasPrefix(who, "You are did:webvh:") {
		t.Errorf("the session is gone: %s", who)
	}
	b.Excuse("403")
	b.Goto(link[0], "body")
	if body := b.Text("body"); !strings.Contains(body, "used before") {
		t.Errorf("the link worked twice: %s", body)
	}

	// Without a terminal; a request is good once; and another one's link is none for this browser.
	request := ask()
	d.fails(ExitUsage, "id", "login", request)
	d.fails(ExitRefused, "id", "login", request, "--yes-to", "https://example.com")
	d.ok("id", "login", request, "--yes-to", origin)
	d.fails(ExitRefused, "id", "login", request, "--yes-to", origin)
	d.fails(ExitUsage, "id", "login", strings.Replace(request, "response_uri=", "response_uri=http%3A%2F%2F127.0.0.1%3A1%2F&x=", 1), "--yes-to", origin)
	d.fails(ExitUsage, "id", "login", "https://example.com", "--yes-to", "https://example.com")
	d.ok("logout")
	d.fails(ExitRefused, "id", "login", ask(), "--yes-to", origin)
}

// askedBy is a request of the demo.
func askedBy(t *testing.T, origin string) string {
	t.Helper()
	c := http.Client{Timeout: longest}
	resp, err := c.Get(origin + "/login/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), `id="request">`)
	request, _, ok := strings.Cut(rest, "<")
	if !ok {
		t.Fatalf("no request in %s", b)
	}
	return html.UnescapeString(request)
}

// A machine is lost, and its owner recovers: the account at the site stays, and whoever
// has the lost machine, with its session open, does not get in any more.
func TestLoginAfterALoss(t *testing.T) {
	t.Parallel()
	lost := newDrive(t)
	origin, log := loginDemo(t)
	lost.ok("id", "login", askedBy(t, origin), "--yes-to", origin)
	lost.umount()
	d := newHome(t)
	d.copyRepo(lost)
	r := d.recover("--phrase-in", lost.path("phrase"))
	d.login()
	if out := d.ok("id", "login", askedBy(t, origin), "--yes-to", origin, "--json"); !strings.Contains(out, r.DID) {
		t.Errorf("%s", out)
	}
	// The site alone is told why.
	lost.says(ExitRefused, "The login was refused", "id", "login", askedBy(t, origin), "--yes-to", origin)
	if !strings.Contains(log(), "not in the DID document") {
		t.Errorf("the site's log: %s", log())
	}
}

// A program on this machine asks over the control socket.
func TestLoginOverTheControlSocket(t *testing.T) {
	t.Parallel()
	d := newDrive(t)
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	c, err := daemon.Connect(ctx, d.home)
	if err != nil {
		t.Fatal(err)
	}
	const who = "urn:example:backup"
	if _, err := c.VerifyLogin(ctx, who, "id_token=x"); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("before anything began: %v", err)
	}
	for _, bad := range []string{"", "urn:ipfscloud:login", "http://example.com"} {
		if _, err := c.BeginLogin(ctx, bad); !errors.Is(err, auth.ErrInvalid) {
			t.Errorf("%q began: %v", bad, err)
		}
	}
	type result struct {
		text string
		err  error
	}
	respond := func(request string) (<-chan result, string) {
		t.Helper()
		got := make(chan result, 1)
		go func() {
			text, err := c.RespondLogin(ctx, request)
			got <- result{text, err}
		}()
		for { // until it waits for the owner
			list, err := c.AskedLogins(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 1 && list[0].Request == request {
				return got, list[0].ID
			}
			select {
			case r := <-got:
				t.Fatalf("answered without the owner: %+v", r)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	request, err := c.BeginLogin(ctx, who, "name")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := respond(request)
	if out := d.ok("id", "login", "--yes-to", who); !strings.Contains(out, who+": yes") {
		t.Errorf("%s", out)
	}
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	in, err := c.VerifyLogin(ctx, who, r.text)
	if err != nil || in.DID != d.status().DID || in.ID != auth.SelfCertifying(in.DID) {
		t.Errorf("%+v, %v", in, err)
	}
	if _, err := c.VerifyLogin(ctx, who, r.text); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("replayed: %v", err)
	}

	// The owner says no.
	if request, err = c.BeginLogin(ctx, who); err != nil {
		t.Fatal(err)
	}
	got, id := respond(request)
	if _, err := exec.LookPath("chromium"); err == nil {
		d.browse(t).Says(".alerts", "asks who you are: "+who)
	}
	x, cmd := d.onTerminal(t, "id", "login")
	x.expect(`calls itself ` + who)
	x.expect(`\[y/N\] `)
	x.enter("n")
	x.expect(who + `: no`)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if r := <-got; !errors.Is(r.err, auth.ErrRefused) {
		t.Errorf("no: %+v", r)
	}
	if err := c.DecideLogin(ctx, id, "id_token=x"); !errors.Is(err, daemon.ErrNotFound) {
		t.Errorf("decided twice: %v", err)
	}

	// An answer for one program is none for another.
	if request, err = c.BeginLogin(ctx, who); err != nil {
		t.Fatal(err)
	}
	if _, err := c.BeginLogin(ctx, "urn:example:other"); err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(d.ok("id", "login", request, "--yes-to", who))
	if _, err := c.VerifyLogin(ctx, "urn:example:other", text); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("for another program: %v", err)
	}
	// It was not used up: it never was the other's.
	if _, err := c.VerifyLogin(ctx, who, text); err != nil {
		t.Error(err)
	}
	// A gone asker leaves nothing behind.
	if request, err = c.BeginLogin(ctx, who); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = c.RespondLogin(short, request)
	}()
	awaitAsked(ctx, t, c, 1)
	stop()
	<-gone
	awaitAsked(ctx, t, c, 0)

	// Who waits is told when the drive is unmounted, and does not keep it.
	got, _ = respond(request)
	d.umount()
	if r := <-got; !errors.Is(r.err, auth.ErrUnavailable) {
		t.Errorf("unmounted meanwhile: %+v", r)
	}
}

func awaitAsked(ctx context.Context, t *testing.T, c *daemon.Client, want int) {
	t.Helper()
	for {
		list, err := c.AskedLogins(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
