// A web server whose users log in with their DIDs. auth/login/README.md explains it.
package main

import (
	"crypto/rand"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/login"
)

var page = template.Must(template.New("").Parse(`{{if .}}<p id=who>You are {{.ID}}</p>
{{range .Credentials}}<p class=claim>{{.Issuer}} says: {{.Claims}}</p>{{end}}
{{else}}<p id=who>Nobody</p><a href="/login/">Log in</a>{{end}}`))

func main() {
	l, err := net.Listen("tcp", append(os.Args, "127.0.0.1:8080")[1])
	if err != nil {
		panic(err)
	}
	var users sync.Map // *login.Login by cookie
	site, err := login.NewSite(login.SiteConfig{
		Config: login.Config{Audience: "http://" + l.Addr().String(), Claims: []string{"name"}}, // your https origin
		Path:   "/login/",
		Refused: func(_ *http.Request, err error) {
			fmt.Fprintf(os.Stderr, "login refused: %q\n", err.Error()) // quoted: strangers choose parts of it
		},
		Done: func(w http.ResponseWriter, r *http.Request, who *login.Login) {
			session := rand.Text()
			users.Store(session, who)
			http.SetCookie(w, &http.Cookie{Name: "session", Value: session, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
			http.Redirect(w, r, "/", http.StatusSeeOther)
		},
	})
	if err != nil {
		panic(err)
	}
	http.Handle("/login/", site)
	http.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		var who any // nobody
		if c, err := r.Cookie("session"); err == nil {
			who, _ = users.Load(c.Value)
		}
		_ = page.Execute(w, who) // the browser may be gone
	})
	fmt.Println("http://" + l.Addr().String())
	server := http.Server{ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: time.Minute}
	panic(server.Serve(l))
}
