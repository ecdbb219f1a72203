package conf

import (
	"errors"
	"regexp"
	"strings"
)

// maxFilter is the most bytes of an OData expression: it becomes part of a request's address.
const maxFilter = 2048

var (
	errFilterOption = errors.New("a query option, of which only the expression belongs here")
	errDoubleQuotes = errors.New("with a double quote outside of text, which OData puts in single quotes")
	errCurlyQuotes  = errors.New("with a typographic quote outside of text, which OData puts in plain single quotes")
	errOpenQuote    = errors.New("with a quote that is never closed")
	errOpenParen    = errors.New("with a parenthesis that is never closed")
	errCloseParen   = errors.New("with a closing parenthesis that nothing opens")

	queryOption = regexp.MustCompile(`^\$[a-z]+ *=`)
)

// checkFilter takes an OData expression that can stand between parentheses, so that what is added to it holds
// whatever it says. Whether the service knows its words only the service can tell.
func checkFilter(text string) (string, error) {
	if err := printable(text, maxFilter); err != nil {
		return "", err
	}
	if queryOption.MatchString(text) {
		return "", errFilterOption
	}
	depth, quoted := 0, false
	for _, r := range text {
		switch {
		case r == '\'': // '' within text closes and opens it
			quoted = !quoted
		case quoted:
		case r == '"':
			return "", errDoubleQuotes
		case strings.ContainsRune("\u2018\u2019\u201c\u201d", r):
			return "", errCurlyQuotes
		case r == '(':
			depth++
		case r == ')' && depth == 0:
			return "", errCloseParen
		case r == ')':
			depth--
		}
	}
	switch {
	case quoted:
		return "", errOpenQuote
	case depth > 0:
		return "", errOpenParen
	}
	return text, nil
}
