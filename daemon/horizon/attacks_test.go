package horizon

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// evil serves the pages of an attacker on another port of this machine.
func evil(t *testing.T, s *site) *httptest.Server {
	t.Helper()
	pages := map[string]string{
		"/frame": `<iframe id="frame" src="%[1]s"></iframe><object data="%[1]s"></object>`,
		"/post": `<form method="post" action="%[1]sunpin"><input name="cid" value="` + cidOf(1041) + `"></form>
			<script>document.forms[0].submit()</script>`,
		"/fetch": `<p id="out"></p><script>
			const out = document.getElementById('out'), all = [];
			for (const path of ['', 'events', 'app.js', 'icon/safe.svg', 'unpin?cid=` + cidOf(1041) + `'])
				for (const mode of ['cors', 'no-cors'])
					all.push(fetch('%[1]s' + path, {credentials: 'include', mode}).then(() => path + ' answered', () => 'refused'));
			all.push(fetch('%[1]sunpin', {method: 'POST', mode: 'no-cors', credentials: 'include',
				body: new URLSearchParams({cid: '` + cidOf(1041) + `'})}).then(() => 'post answered', () => 'refused'));
			Promise.all(all).then(words => out.textContent = 'all: ' + [...new Set(words)].join(', '));
			</script>`,
		"/link": `<a id="link" href="%[1]s">Look!</a>`,
	}
	e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><h1>Evil</h1>`+pages[r.URL.Path], s.URL())
	}))
	t.Cleanup(e.Close)
	return e
}

// A person who is logged in comes upon the page of an attacker, in a real browser.
func TestChromiumEvilPages(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := browse(t, 1000, 800)
	b.enter(s)
	for _, words := range []string{"status of 403", "status of 421", "status of 401", "Failed to load resource", "CORS policy", "frame", "Framing", "ERR_BLOCKED", "ERR_FAILED", "Refused to", "Opener-Policy"} {
		b.Excuse(words)
	}
	e := evil(t, s)
	untouched := func(what string) {
		t.Helper()
		if retried, unpinned := s.source.acts(); len(retried)+len(unpinned) > 0 {
			t.Fatalf("%s did something: %v %v", what, retried, unpinned)
		}
	}

	b.Goto(e.URL+"/frame", "#frame")
	eventually(t, "the frames are refused", func() bool { return s.refused.all()["framed"] >= 2 })

	b.Leads("a form that sends itself", "body", chromedp.Navigate(e.URL+"/post"))
	b.Says("body", "Refused (origin)")
	untouched("the form of another page")

	b.Goto(e.URL+"/fetch", "#out")
	b.Says("#out", "all: ")
	if out := b.Text("#out"); out != "all: refused" {
		t.Errorf("a script of another page: %s", out)
	}
	untouched("the script of another page")

	// DNS rebinding: the name of the attacker resolves to us.
	_, port, _ := strings.Cut(s.address(), ":")
	b.Goto("http://rebound.example:"+port+"/", "body")
	b.Says("body", "Refused (host)")

	// A link elsewhere leads to us, and does not bring the session along.
	b.Goto(e.URL+"/link", "#link")
	b.Follow("#link", "#login")
	b.Goto(s.URL(), "#sentence")
	b.Says("#sentence", "Everything is stored in 3 places.")
}
