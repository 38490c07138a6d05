package webvh

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

type service struct {
	Context  string `json:"@context,omitempty"`
	ID       string `json:"id"`
	Type     string `json:"type"`
	Endpoint string `json:"serviceEndpoint"`
}

// implicit are the services that each DID has unless its document says otherwise.
func implicit(id ID) []service {
	return []service{
		{ID: "#files", Type: "relativeRef", Endpoint: id.BaseURL()},
		{Context: "https://identity.foundation/linked-vp/contexts/v1", ID: "#whois",
			Type: "LinkedVerifiablePresentation", Endpoint: id.BaseURL() + "whois.vp"},
	}
}

// withServices is the document of an entry with the implicit services that it does not
// override. What the entry declares stays as it was written.
func withServices(e *Entry) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.state, &members); err != nil {
		return nil, invalid(KindDocument, "%v", err)
	}
	var services []json.RawMessage
	if raw, ok := members["service"]; ok {
		if err := json.Unmarshal(raw, &services); err != nil {
			return e.State(), nil // an odd document is returned as it is
		}
	}
	declared := serviceIDs(e)
	for _, s := range implicit(e.ID) {
		if slices.Contains(declared, s.ID) || slices.Contains(declared, e.ID.text+s.ID) {
			continue
		}
		raw, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		services = append(services, raw)
	}
	raw, err := json.Marshal(services)
	if err != nil {
		return nil, err
	}
	members["service"] = raw
	return json.Marshal(members)
}

func serviceIDs(e *Entry) []string {
	state, _ := e.body["state"].(map[string]any)
	list, _ := state["service"].([]any)
	var ids []string
	for _, s := range list {
		o, _ := s.(map[string]any)
		id, _ := o["id"].(string)
		ids = append(ids, id)
	}
	return ids
}

// Locate returns the URL of the resource that a DID URL with a path names, by the
// document of a resolution: /whois by the service #whois, any other path by #files.
func (r *Resolution) Locate(path string) (string, error) {
	path, err := cleanPath(path)
	if err != nil || path == "" {
		return "", badURL(path, "no path that leads anywhere")
	}
	if r.Document == nil || r.Entry == nil {
		return "", notFound("the DID has no document")
	}
	name := "#files"
	if path == "/whois" {
		name = "#whois"
	}
	doc := struct {
		Service []struct {
			ID       string          `json:"id"`
			Endpoint json.RawMessage `json:"serviceEndpoint"`
		} `json:"service"`
	}{}
	if err := json.Unmarshal(r.Document, &doc); err != nil {
		return "", invalid(KindDocument, "its services: %v", err)
	}
	for _, s := range doc.Service {
		if s.ID != name && s.ID != r.Entry.ID.text+name {
			continue
		}
		var endpoint string
		if err := json.Unmarshal(s.Endpoint, &endpoint); err != nil {
			return "", invalid(KindDocument, "the endpoint of %s is no URL", name)
		}
		if !strings.HasPrefix(endpoint, "https://") {
			return "", invalid(KindDocument, "the endpoint %.200q of %s is not of https", endpoint, name)
		}
		if name == "#whois" {
			return endpoint, nil
		}
		return strings.TrimSuffix(endpoint, "/") + path, nil
	}
	return "", &did.Error{Name: did.NameNotFound, Reason: "no service " + name, Err: did.ErrNotFound}
}
