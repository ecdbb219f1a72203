package entra

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/transport"
)

// identityPatience is how long one attempt waits for the metadata service: while it is
// updated (410) it may be away for 70 s (facts).
const identityPatience = 70 * time.Second

// machine is what gives tokens to a managed identity. Each has a protocol of its own, and Microsoft's libraries tell
// them apart by the environment, as machineOf does.
type machine int

const (
	virtualMachine machine = iota // its instance metadata service
	appService                    // App Service, Functions, Container Apps: a secret in the environment is sent along
	azureArc                      // a server outside of Azure: a key that only its members may read is sent along
)

// machineVersions are the api-version that each is asked with.
var machineVersions = map[machine]string{virtualMachine: "2018-02-01", appService: "2019-08-01", azureArc: "2020-06-01"}

// arcKeys is where the agent of Azure Arc keeps its keys: no other file is read for it. Tests put another in its place.
var arcKeys = "/var/opt/azcmagent/tokens"

const (
	// arcAgent is there where the agent of Azure Arc is installed. Services that started before it lack its
	// environment, so Microsoft's libraries look for this file too, and ask at arcAddress.
	arcAgent   = "/opt/azcmagent/bin/himds"
	arcAddress = "http://127.0.0.1:40342/metadata/identity/oauth2/token"
	maxArcKey  = 4 << 10 // bytes
)

// machineOf tells what gives tokens here, where, and with which secret. An address that is configured is a metadata
// service.
func machineOf(
	configured string, getenv func(string) string, exists func(path string) bool,
) (m machine, address, secret string) {
	at, header := getenv("IDENTITY_ENDPOINT"), getenv("IDENTITY_HEADER")
	switch {
	case configured != conf.IMDS:
		return virtualMachine, configured, ""
	case at != "" && header != "":
		return appService, at, header
	case at != "" && getenv("IMDS_ENDPOINT") != "":
		return azureArc, at, ""
	case exists(arcAgent):
		return azureArc, arcAddress, ""
	}
	return virtualMachine, configured, ""
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// identity asks for tokens of a managed identity.
type identity struct {
	t       *Tokens
	machine machine
	address string
	secret  string // of App Service
}

// managedIdentity builds the grant. Its requests never go through a proxy.
func managedIdentity(t *Tokens, cfg *conf.Config) (grant, error) {
	m, address, secret := machineOf(cfg.ManagedIdentityEndpoint, os.Getenv, fileExists)
	if m == appService && os.Getenv("IDENTITY_SERVER_THUMBPRINT") != "" {
		return nil, errors.New("auth: the managed identities of Service Fabric are not supported; " +
			"use client_certificate or workload_identity")
	}
	name := "managed_identity_endpoint"
	if m != virtualMachine {
		name = "IDENTITY_ENDPOINT in the environment"
	}
	u, err := transport.ParseAddress(name, address)
	if err != nil {
		return nil, err
	}
	if m == azureArc && cfg.ManagedIdentityClientID != "" {
		return nil, errors.New("managed_identity_client_id: " +
			"a server of Azure Arc has its system-assigned identity alone; leave it out")
	}
	t.net.Mask.Hide(secret)
	q := u.Query()
	q.Set("api-version", machineVersions[m])
	q.Set("resource", cfg.Resource)
	if cfg.ManagedIdentityClientID != "" {
		q.Set("client_id", cfg.ManagedIdentityClientID)
	}
	u.RawQuery = q.Encode()
	g := identity{t, m, u.String(), secret}
	return func(w *tokenWire, again bool) (*oauth2.Token, error) {
		if again {
			return nil, nil // there is nothing to read anew
		}
		return g.token(w)
	}, nil
}

// token asks until there is an answer that asking again cannot change, with doubled
// waits, for 70 s. While a held token serves it asks once: there is time.
func (g identity) token(w *tokenWire) (*oauth2.Token, error) {
	start := time.Now()
	for wait := time.Second; ; wait *= 2 {
		tok, err := g.ask(w)
		e, ok := errors.AsType[*transport.Error](err)
		if err == nil || w.spare || !ok || e.Kind != transport.KindTokenTransient {
			return tok, err
		}
		left := identityPatience - time.Since(start)
		if left <= 0 || e.RetryAfter > left {
			return nil, err
		}
		if err := g.t.net.Pause(w.ctx, identities.Name, min(max(wait, e.RetryAfter), left)); err != nil {
			return nil, err
		}
	}
}

// get sends one request, with the key that Azure Arc asked for.
func (g identity) get(w *tokenWire, key string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, g.address, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: managed_identity_endpoint is not usable", identities.Name)
	}
	if g.machine == appService {
		req.Header.Set("X-IDENTITY-HEADER", g.secret)
	} else {
		req.Header.Set("Metadata", "true")
	}
	if key != "" {
		req.Header.Set("Authorization", "Basic "+key)
	}
	return w.send(identities, req)
}

// arcKey reads the key that an answer of Azure Arc names: who may read it may have tokens.
func (g identity) arcKey(h http.Header) (string, *transport.Error) {
	e := &transport.Error{Kind: transport.KindToken, Status: http.StatusUnauthorized, Op: identities.Name}
	_, path, ok := strings.Cut(h.Get("WWW-Authenticate"), "Basic realm=")
	path = strings.Trim(path, `"`)
	if !ok || filepath.Dir(filepath.Clean(path)) != arcKeys || filepath.Ext(path) != ".key" {
		e.What = "the agent of Azure Arc names no key in " + arcKeys
		e.Remedy = "look for another program at its address, and update the agent"
		return "", e
	}
	text, err := credential.ReadFile(path, path, maxArcKey)
	if err != nil {
		e.What = "the key of Azure Arc's agent cannot be read: " + err.Error()
		e.Remedy = "make the user that runs Fluent Bit a member of the group himds"
		return "", e
	}
	key := strings.TrimSpace(string(text))
	g.t.net.Mask.Hide(key)
	return key, nil
}

func (g identity) ask(w *tokenWire) (*oauth2.Token, error) {
	resp, body, err := g.get(w, "")
	if err == nil && g.machine == azureArc && resp.StatusCode == http.StatusUnauthorized {
		key, refused := g.arcKey(resp.Header)
		if refused != nil {
			return nil, refused
		}
		resp, body, err = g.get(w, key)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, g.refused(resp, body)
	}
	var answer struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if json.Unmarshal(plainLifetime(body, w.last.Present()), &answer) != nil || answer.AccessToken == "" {
		return nil, &transport.Error{Kind: transport.KindTokenTransient, Status: resp.StatusCode, Op: identities.Name,
			What: "the answer holds no token", Remedy: "check " + identities.Keys}
	}
	tok := &oauth2.Token{AccessToken: answer.AccessToken, TokenType: answer.TokenType}
	if life, ok := secondsOf(answer.ExpiresIn); ok && life > 0 {
		tok.Expiry = time.Now().Add(time.Duration(life) * time.Second)
	}
	return tok, nil
}

// refused is the error of an answer that is not 200: 404, 410, 429 and 5xx go away by
// themselves (facts), the rest until an operator acts does not.
func (g identity) refused(resp *http.Response, body []byte) *transport.Error {
	e := g.t.tokenError(identities, resp, body)
	switch status := resp.StatusCode; {
	case status == http.StatusNotFound, status == http.StatusGone:
		e.Kind = transport.KindTokenTransient
		e.What = fmt.Sprintf("the metadata service is being updated, or is not there (%d)", status)
		e.Remedy = "if it lasts, " + identities.Direct
	case status == http.StatusTooManyRequests:
		e.Kind = transport.KindTokenTransient
		e.RetryAfter = g.t.net.RetryAfter(resp.Header) // a minute, as at Entra ID, would be long here
	case status >= 500:
		e.Kind = transport.KindTokenTransient
	}
	return e
}
