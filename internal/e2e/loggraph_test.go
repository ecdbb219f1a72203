package e2e

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// edited changes the text of the service's answer.
func (s *scenario) edited(edit func(r *http.Request, text string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept-Encoding")
		answer := httptest.NewRecorder()
		s.svc.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		w.Header().Del("Content-Length")
		w.WriteHeader(answer.Code)
		_, _ = w.Write([]byte(edit(r, answer.Body.String()))) // the client may be gone
	}
}

var nextLink = regexp.MustCompile(`"@odata.nextLink":"[^"]*"`)

// graphLinks has more than a page of alerts in one second, so that pages are read, and links that lead nowhere.
func graphLinks(s *scenario) {
	gen := defendersim.NewGraphGenerator(rand.New(rand.NewPCG(1, 2)), defendersim.GraphMix{})
	s.svc.SetModes(func(m *defendersim.Modes) { m.Graph.PageCap = 20 })
	then := s.svc.Now().Add(-12 * time.Second) // older than the overlap, and in the lookback of a start that takes long
	for range 21 {
		s.svc.AddGraph(gen.Alert(then))
	}
	refused := answers(400, `{"error":{"code":"BadRequest","message":"no such page"}}`, "Content-Type",
		"application/json")
	itself := s.edited(func(r *http.Request, text string) string {
		link := `"@odata.nextLink":"http://` + r.Host + r.URL.RequestURI() + `"`
		if nextLink.MatchString(text) {
			return nextLink.ReplaceAllLiteralString(text, link)
		}
		return strings.Replace(text, "{", "{"+link+",", 1)
	})
	linked := func(line string, pages, alerts []http.HandlerFunc) plight {
		return plight{level: "warn", line: line, graph: true, keys: []string{"initial_lookback 1m"}, pages: pages,
			alerts: alerts}
	}
	unread := linked("cannot read the alerts processed from ", slices.Repeat([]http.HandlerFunc{refused}, 40), nil)
	unread.level, unread.lasts = "error", true // no request fails: what is behind the link is unread
	s.plights(
		unread,
		linked("alerts request: the link to the next page leads to its own page", []http.HandlerFunc{itself, itself},
			nil),
		linked("alerts of ", nil, later(answers(206, `{"value":[]}`, "Warning", `199 - "a provider did not answer"`))),
	)
}
