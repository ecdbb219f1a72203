package defendersim

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/models"
)

// SetIdentities gives the machine its managed identities, by client id: the system-assigned one, "" for none, and any
// number of user-assigned ones. They become applications of the tenant.
func (s *Service) SetIdentities(system string, users ...string) {
	for _, id := range append(users, system) {
		if id != "" {
			s.apps.change(id, func(a *application) { a.secrets = []string{proven} })
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.system, s.users = system, slices.Clone(users)
}

// Machine is another kind of machine than a virtual one, with its own protocol for tokens of managed identities.
type Machine struct {
	Header       string // of App Service: the secret that each request must bring
	KeyFile, Key string // of Azure Arc: where the key lies that each request must bring, and what it is
}

// SetMachine makes the metadata service that of another kind of machine.
func (s *Service) SetMachine(m Machine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machine = m
}

// admits tells whether a request speaks the protocol of the machine; it answers one that does not.
func (x *exchange) admits(m Machine) bool {
	h, version := x.r.Header, x.r.URL.Query().Get("api-version")
	want := "2018-02-01"
	switch {
	case m.Header != "":
		want = "2019-08-01"
		if h.Get("X-IDENTITY-HEADER") != m.Header {
			x.identityError(http.StatusUnauthorized, "unauthorized", "The header X-IDENTITY-HEADER is missing or wrong")
			return false
		}
	case h.Get("Metadata") != "true":
		x.identityError(http.StatusBadRequest, "bad_request_102", "Required metadata header not specified")
		return false
	case m.KeyFile != "":
		want = "2020-06-01"
		if h.Get("Authorization") != "Basic "+m.Key {
			x.w.Header().Set("WWW-Authenticate", "Basic realm="+m.KeyFile)
			x.identityError(http.StatusUnauthorized, "unauthorized_client", "Missing Basic Authorization header")
			return false
		}
	}
	if version != want {
		x.identityError(http.StatusBadRequest, "bad_request_102",
			"Required query parameter 'api-version' missing or invalid")
		return false
	}
	return true
}

// identity finds the identity that is asked for.
func (s *Service) identity(clientID string) (id, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.users
	if s.system != "" {
		all = append([]string{s.system}, s.users...)
	}
	switch {
	case clientID != "" && slices.Contains(all, clientID):
		return clientID, ""
	case clientID != "", len(all) == 0:
		return "", "Identity not found"
	case s.system != "":
		return s.system, ""
	case len(s.users) > 1:
		return "", "Multiple user assigned identities exist, " +
			"please specify the clientId / resourceId of the identity in the token request"
	}
	return s.users[0], ""
}

// serveIdentity is the machine's metadata service: tokens for managed identities.
func (x *exchange) serveIdentity() {
	r := x.r
	q := r.URL.Query()
	x.s.mu.Lock()
	machine := x.s.machine
	x.s.mu.Unlock()
	switch {
	case r.Method != http.MethodGet:
		x.identityError(http.StatusMethodNotAllowed, "method_not_allowed", "Only GET is allowed")
		return
	case r.Header.Get("X-Forwarded-For") != "": // a proxy stands between
		x.identityError(http.StatusBadRequest, "bad_request", "Request with X-Forwarded-For header is not allowed")
		return
	case !x.admits(machine):
		return
	case q.Get("resource") == "":
		x.identityError(http.StatusBadRequest, "invalid_request", "Required query parameter 'resource' missing")
		return
	case !x.s.gives(q.Get("resource")):
		x.identityError(http.StatusBadRequest, "invalid_resource", x.entraText(500011, x.uuid(), x.uuid(), x.stamp()))
		return
	}
	id, problem := x.s.identity(q.Get("client_id"))
	if problem != "" {
		x.identityError(http.StatusBadRequest, "invalid_request", problem)
		return
	}
	r.Form = q
	info, err := x.s.oauth.Manager.GenerateAccessToken(r.Context(), oauth2.ClientCredentials,
		&oauth2.TokenGenerateRequest{ClientID: id, ClientSecret: proven, Request: r})
	if err != nil {
		panic(fmt.Sprintf("defendersim: token of an identity: %v", err))
	}
	t := info.(*models.Token)
	x.s.mu.Lock()
	x.s.stats.Issued++
	x.s.mu.Unlock()
	life, made := int64(t.AccessExpiresIn.Seconds()), t.AccessCreateAt.Unix()
	x.json(http.StatusOK, struct {
		AccessToken  string `json:"access_token"`
		ClientID     string `json:"client_id"`
		ExpiresIn    string `json:"expires_in"`
		ExpiresOn    string `json:"expires_on"`
		ExtExpiresIn string `json:"ext_expires_in"`
		NotBefore    string `json:"not_before"`
		Resource     string `json:"resource"`
		TokenType    string `json:"token_type"`
	}{t.Access, id, unix(life), unix(made + life), unix(life), unix(made), q.Get("resource"), "Bearer"})
}

func (x *exchange) identityError(status int, name, text string) {
	x.json(status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{name, text})
}
