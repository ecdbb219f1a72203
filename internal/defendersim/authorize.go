package defendersim

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-oauth2/oauth2/v4/errors"
)

// serveAuthorize is the page on which a person logs in and consents: GET shows it, its form posts the answer back,
// and the answer leads to the application with a code. A fault of the request is told on a page: Entra ID leads
// nobody to an address that it does not know.
func (x *exchange) serveAuthorize() {
	r := x.r
	switch {
	case x.req.badness != nil:
		x.errorPage(900144)
		return
	case r.Method == http.MethodPost:
		r.Form = r.PostForm
	case r.Method == http.MethodGet:
		r.Form = r.URL.Query()
	default:
		x.errorPage(900561)
		return
	}
	if code := x.refuseAuthorize(r.Form); code != 0 {
		x.errorPage(code)
		return
	}
	if err := x.s.oauth.HandleAuthorizeRequest(answerWriter{x.w, x}, r); err != nil {
		panic(fmt.Sprintf("defendersim: authorize answer: %v", err))
	}
}

func (x *exchange) refuseAuthorize(form url.Values) int {
	has := func(name string) bool { return form.Get(name) != "" }
	a, known := x.s.apps.find(form.Get("client_id"))
	switch {
	case !strings.EqualFold(x.req.tenant, x.s.cfg.Tenant):
		return 90002
	case !has("client_id"), !has("response_type"), !has("redirect_uri"):
		return 900144
	case !known:
		return 700016
	case !a.redirects(form.Get("redirect_uri")):
		return 50011
	case form.Get("response_type") != "code":
		return 700054
	case x.req.Version == 2 && has("resource"):
		return 901002
	case x.req.Version == 1 && !has("resource"), x.req.Version == 2 && !has("scope"):
		return 900144
	case !x.s.gives(audienceOf(form)):
		return 500011
	}
	return 0
}

// consent is asked by the library who consented. "" without an error: the page was shown.
func consent(w http.ResponseWriter, r *http.Request) (string, error) {
	x := w.(answerWriter).x
	if r.Method != http.MethodPost {
		x.consentPage()
		return "", nil
	}
	if r.Form.Get("consent") != "accept" {
		x.declined()
		return "", nil
	}
	return x.s.cfg.User, nil
}

// declined leads back to the application with an error.
func (x *exchange) declined() {
	u, err := url.Parse(x.r.Form.Get("redirect_uri"))
	if err != nil { // it was checked
		panic(fmt.Sprintf("defendersim: %v", err))
	}
	q := url.Values{"error": {errors.ErrAccessDenied.Error()}, "error_subcode": {"cancel"},
		"error_description": {x.entraText(65004, x.uuid(), x.uuid(), x.stamp())}}
	if state := x.r.Form.Get("state"); state != "" {
		q.Set("state", state)
	}
	u.RawQuery = q.Encode()
	x.leadBack(u.String())
}

// leadBack sends the browser to the application. As Entra ID does, it adds a slash to an address without a path.
func (x *exchange) leadBack(to string) {
	u, err := url.Parse(to)
	if err != nil { // the redirect URI was checked
		panic(fmt.Sprintf("defendersim: %v", err))
	}
	if u.Path == "" {
		u.Path = "/"
	}
	x.w.Header().Set("Location", u.String())
	x.header(http.StatusFound)
}

var consentTemplate = template.Must(template.New("consent").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Permissions requested</title></head>
<body><h1>Permissions requested</h1>
<p>The application {{.App}} asks {{.User}} for access to {{.Audience}}.</p>
<form id="consent" method="post" action="{{.Action}}">
{{range .Fields}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">
{{end}}<button id="accept" type="submit" name="consent" value="accept">Accept</button>
<button id="cancel" type="submit" name="consent" value="cancel">Cancel</button>
</form></body></html>
`))

func (x *exchange) consentPage() {
	type field struct{ Name, Value string }
	form := x.r.Form
	data := struct {
		App, User, Audience, Action string
		Fields                      []field
	}{form.Get("client_id"), x.s.cfg.User, audienceOf(form), x.r.URL.Path, nil}
	for name, values := range form {
		data.Fields = append(data.Fields, field{name, values[0]})
	}
	x.html(http.StatusOK, consentTemplate, data)
}

var errorTemplate = template.Must(template.New("error").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in</title></head>
<body><h1>Sorry, but we're having trouble signing you in.</h1><p id="error">{{.}}</p></body></html>
`))

// errorPage tells a person what is wrong with the request.
func (x *exchange) errorPage(code int) {
	x.html(http.StatusBadRequest, errorTemplate, x.entraText(code, x.uuid(), x.uuid(), x.stamp()))
}

func (x *exchange) html(status int, page *template.Template, data any) {
	var text strings.Builder
	if err := page.Execute(&text, data); err != nil {
		panic(fmt.Sprintf("defendersim: %v", err))
	}
	out := x.open(status, "text/html; charset=utf-8", int64(text.Len()))
	if _, err := out.Write([]byte(text.String())); err == nil {
		out.finish()
	}
}
