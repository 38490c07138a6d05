package horizon

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"net/http"
	"time"
)

//go:embed redirect
var redirect embed.FS

// Login opens the page once. Whoever has it, and is a user whom it is for, sees the page, so
// it goes to a terminal or into a file that only its owner reads, and never into an argument
// of a process.
type Login struct {
	URL     string // with the code in its fragment, which browsers do not send
	Code    string // for typing it in
	Expires time.Time

	page string
	pass *pass
}

// Redirect is an HTML file that opens the page, for a browser that is given its name. It
// must have mode 0600, and may be deleted when the code has expired.
//
// The file trusts no server that happens to answer at the page's address. It asks for a
// proof that the server knows the key which stands in the file and in the server's memory
// alone, and only then goes there, with a proof of its own that is good once. The key does
// not leave the file, and the file does not have the code.
func (l Login) Redirect() ([]byte, error) {
	script, err := redirect.ReadFile("redirect/redirect.js")
	if err != nil {
		return nil, err
	}
	t, err := template.ParseFS(redirect, "redirect/redirect.html")
	if err != nil {
		return nil, err
	}
	page, err := json.Marshal(map[string]string{"page": l.page, "id": l.pass.id, "key": hex.EncodeToString(l.pass.key)})
	if err != nil {
		return nil, err
	}
	text := "const horizon = " + string(page) + ";\n" + string(script)
	sum := sha256.Sum256([]byte(text))
	policy := "default-src 'none'; base-uri 'none'; form-action 'none'; connect-src " + l.page +
		"; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	var b bytes.Buffer
	// The script is ours, and the values in it are JSON, in which no letter ends the element.
	err = t.Execute(&b, map[string]any{"Policy": policy, "Script": template.HTML("<script>" + text + "</script>")})
	return b.Bytes(), err
}

// hello proves to a redirect file that this is the server which made it. It is asked from a
// file, which browsers call the origin "null"; what it answers tells nothing to others.
func (s *Server) hello(w http.ResponseWriter, r *http.Request) {
	secureHeaders(w.Header())
	w.Header().Set("Access-Control-Allow-Origin", "null")
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	if !s.ourHost(r.Host) || r.Method != http.MethodPost {
		s.refused.count("host")
		http.Error(w, "Refused.", http.StatusMisdirectedRequest)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, s.limits.body)
	if err := r.ParseForm(); err != nil {
		s.refused.count("size")
		http.Error(w, "The form is too large or broken.", http.StatusRequestEntityTooLarge)
		return
	}
	ours, proof, ok := s.sessions.prove(r.PostForm.Get("id"), r.PostForm.Get("nonce"), user(r))
	if !ok {
		s.refused.count("hello")
		http.Error(w, "This file was used already, is too old, or is for another user.", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"nonce": ours, "proof": proof}) // who asked may be gone
}
