package conf

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

//go:generate go test -count=1 -run ^TestConfigurationPage . -update

const (
	themeWho     = "Application and credentials"
	themeWhere   = "Cloud and addresses"
	themeWhich   = "Which alerts"
	themeWhen    = "When and how far back"
	themeState   = "State"
	themeSize    = "Sizes"
	themeNetwork = "Network"
	themeRecord  = "Records"
)

const tenYears = "3650d" // longer than the service keeps anything, short enough for any arithmetic

// Keys is the table of the stanza's keys: Load reads by it, and docs/configuration.md is generated from it.
var Keys = slices.Concat(serviceKeys, pullKeys)

// serviceKeys say who asks, and where.
var serviceKeys = []Key{
	{
		Name: "api", PerTenant: true, Theme: themeWho, Type: Choice, Default: SIEM, Values: []string{SIEM, Graph},
		Help: "The API to pull from: the SIEM API of Defender for Endpoint (deprecated), or its successor, " +
			"`security/alerts_v2` of Microsoft Graph.",
		field: func(c *Config) any { return &c.API },
	},
	{
		Name: "successor", PerTenant: true, Theme: themeWho, Type: Choice, Default: noSuccessor,
		Values: []string{noSuccessor, Graph}, API: SIEM,
		Why: "has no successor",
		Help: "`graph`: when the SIEM API is gone for good, the stanza goes on with Microsoft Graph by itself: " +
			"nothing is missed, and what was delivered does " +
			"not come again (docs/migration.md). The application needs `SecurityAlert.Read.All`; what is missing is " +
			"told at start and once a day.",
		field: func(c *Config) any { return &c.SuccessorAPI },
	},
	{
		Name: "successor_after", Theme: themeWho, Type: Duration, Default: "1h", Min: "1m", Max: "7d", API: SIEM,
		Why: "has no successor",
		Help: "With `successor graph`: how long every request must have been refused (403, 404, 410, no such name, " +
			"connection refused) before.",
		field: func(c *Config) any { return &c.SuccessorAfter },
	},
	{
		Name: "successor_url", PerTenant: true, Theme: themeWho, Type: URL, API: SIEM, Absent: "from `cloud`",
		address: address{whole: true},
		Allowed: "https://HOST/PATH, without user, query and fragment; http to loopback addresses only",
		Why:     "has no successor",
		Help:    "With `successor graph`: the alerts endpoint of Microsoft Graph, whole, in place of the preset.",
		field:   func(c *Config) any { return &c.SuccessorURL },
	},
	{
		Name: "tenant_id", PerTenant: true, Theme: themeWho, Type: Text, Needs: applications, Env: "AZURE_TENANT_ID",
		Absent:  "required, but for a managed identity",
		Allowed: "the tenant's GUID, or one of its domain names such as contoso.onmicrosoft.com",
		Help:    "The Entra ID tenant whose alerts are pulled.",
		clean:   cleanTenant, field: func(c *Config) any { return &c.TenantID },
	},
	{
		Name: "tenants_file", Theme: themeWho, Type: File, Absent: "none",
		Help: "A list of tenants (YAML or JSON), all pulled by this stanza; see Many tenants below. It is read " +
			"again when it changes, and stands in for `tenant_id`.",
		field: func(c *Config) any { return &c.TenantsFile },
	},
	{
		Name: "client_id", PerTenant: true, Theme: themeWho, Type: Text, Auth: applications, Needs: applications,
		Env: "AZURE_CLIENT_ID", shy: true,
		Absent:  "required, but for a managed identity",
		Allowed: "the application's GUID (letters, digits, '.', '_' and '-', 128 at most)",
		Help:    "The application (client) id of the registered application.",
		clean:   cleanClient, field: func(c *Config) any { return &c.ClientID },
	},
	{
		Name: "auth", PerTenant: true, Theme: themeWho, Type: Choice, Absent: "from the keys given",
		Values: append(slices.Clone(applications), ManagedIdentity),
		Help:   "How the application proves who it is; see Credentials below.",
		field:  func(c *Config) any { return &c.Auth },
	},
	{
		Name: "client_secret", PerTenant: true, Theme: themeWho, Type: Password, Auth: []string{ClientSecret},
		Secret: true, Absent: "this or `client_secret_file`",
		Help: "The secret's value (not its id). Prefer `client_secret_file`: a `${VARIABLE}` that is not " +
			"set vanishes.",
		field: func(c *Config) any { return &c.ClientSecret },
	},
	{
		Name: "client_secret_file", PerTenant: true, Theme: themeWho, Type: File, Auth: []string{ClientSecret},
		shy: true, Absent: "this or `client_secret`",
		Help:  "A file that holds the secret and nothing else. It is read again when it changes.",
		field: func(c *Config) any { return &c.ClientSecretFile },
	},
	{
		Name: "client_certificate_file", PerTenant: true, Theme: themeWho, Type: File,
		Auth: []string{ClientCertificate}, Needs: []string{ClientCertificate}, shy: true,
		Absent: "required with `auth client_certificate`",
		Help: "Certificate and RSA key: PEM (the key without a passphrase), or PKCS#12. It is read again when " +
			"it changes.",
		field: func(c *Config) any { return &c.ClientCertificateFile },
	},
	{
		Name: "client_certificate_password", PerTenant: true, Theme: themeWho, Type: Password,
		Auth: []string{ClientCertificate}, Secret: true, Absent: "none",
		Help:  "The password of a PKCS#12 file.",
		field: func(c *Config) any { return &c.ClientCertificatePassword },
	},
	{
		Name: "federated_token_file", PerTenant: true, Theme: themeWho, Type: File, Auth: []string{WorkloadIdentity},
		Needs: []string{WorkloadIdentity},
		Env:   "AZURE_FEDERATED_TOKEN_FILE", shy: true, Absent: "required with `auth workload_identity`",
		Help:  "The token of a Kubernetes service account. It is read at every use.",
		field: func(c *Config) any { return &c.FederatedTokenFile },
	},
	{
		Name: "managed_identity_client_id", PerTenant: true, Theme: themeWho, Type: Text,
		Auth: []string{ManagedIdentity}, shy: true,
		Absent:  "the system-assigned identity",
		Allowed: "the identity's client id, a GUID (letters, digits, '.', '_' and '-', 128 at most)",
		Help:    "The client id of a user-assigned managed identity.",
		clean:   cleanClient, field: func(c *Config) any { return &c.ManagedIdentityClientID },
	},
	{
		Name: "managed_identity_endpoint", PerTenant: true, Theme: themeWho, Type: URL, Auth: []string{ManagedIdentity},
		address: address{plain: true, whole: true},
		Absent:  "`" + IMDS + "`, or what the environment names on Azure Arc and App Service",
		Allowed: "http://HOST/PATH or https, without user, query and fragment",
		Help:    "The endpoint that gives tokens to a managed identity. It is never asked through a proxy.",
		field:   func(c *Config) any { return &c.ManagedIdentityEndpoint },
	},
	{
		Name: "refresh_token_file", PerTenant: true, Theme: themeWho, Type: File, Auth: []string{AuthorizationCode},
		Needs: []string{AuthorizationCode}, shy: true,
		Absent: "required with `auth authorization_code`",
		Help: "The file that keeps the login of a person: `defenderctl login` writes it, the plugin replaces the " +
			"token in it at each use.",
		field: func(c *Config) any { return &c.RefreshTokenFile },
	},

	{
		Name: "cloud", PerTenant: true, Theme: themeWhere, Type: Choice, Default: "public", Values: []string{"public",
			"gcc", "gcc_high", "dod"},
		Help:  "Microsoft's cloud: presets of `authority`, `url` and `resource`.",
		field: func(c *Config) any { return &c.Cloud },
	},
	{
		Name: "region", PerTenant: true, Theme: themeWhere, Type: Choice, Absent: "required in `cloud public`",
		Values: []string{"us", "eu", "uk"}, API: SIEM,
		Why:   "has one address for all regions of a cloud",
		Help:  "The region in which the tenant's Defender data lives. Only in the public cloud.",
		field: func(c *Config) any { return &c.Region },
	},
	{
		Name: "url", PerTenant: true, Theme: themeWhere, Type: URL, Absent: "from `api`, `cloud` and `region`",
		address: address{whole: true},
		Allowed: "https://HOST/PATH, without user, query and fragment; http to loopback addresses only",
		Help:    "The alerts endpoint, whole, where the presets do not fit.",
		field:   func(c *Config) any { return &c.URL },
	},
	{
		Name: "authority", PerTenant: true, Theme: themeWhere, Type: URL, Auth: applications,
		Env: "AZURE_AUTHORITY_HOST", Absent: "from `cloud`",
		Allowed: "https://HOST, without user, query and fragment; http to loopback addresses only",
		Help:    "The host that issues tokens.",
		field:   func(c *Config) any { return &c.Authority },
	},
	{
		Name: "token_url", PerTenant: true, Theme: themeWhere, Type: URL, Auth: applications,
		Absent:  "`authority`/`tenant_id`/oauth2/token; with `api graph` /oauth2/v2.0/token",
		address: address{whole: true},
		Allowed: "https://HOST/PATH, without user, query and fragment; http to loopback addresses only",
		Help: "The token endpoint, whole. One that ends in `/v2.0/token` is asked with a scope, any other with " +
			"a resource.",
		field: func(c *Config) any { return &c.TokenURL },
	},
	{
		Name: "resource", PerTenant: true, Theme: themeWhere, Type: Text, Absent: "`" + siemResource + "`; with `api " +
			"graph` from `cloud`",
		Allowed: "the application's identifier, such as " + siemResource + ", without /.default",
		Help: "What the token is for. With `api siem`, applications not made through the portal may need " +
			"`https://WDATPAlertExport.Seville.onmicrosoft.com`.",
		clean: cleanResource, field: func(c *Config) any { return &c.Resource },
	},
}

var (
	identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	tenantName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	guid       = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

// IsGUID tells whether text is a GUID in its usual form: an id, no secret.
func IsGUID(text string) bool { return guid.MatchString(text) }

// cleanTenant also keeps out what would break the path of the token endpoint, of which the tenant is a part.
func cleanTenant(text string) (string, error) {
	text = strings.ToLower(text)
	switch {
	case text == "common" || text == "organizations" || text == "consumers":
		return "", errors.New("no tenant of its own, and gives an application no token")
	case !tenantName.MatchString(text) || strings.Contains(text, ".."):
		return "", errors.New("neither a GUID nor a domain name")
	}
	return text, nil
}

// cleanClient refuses the characters that secrets have and ids have not (~ + / =): the two get swapped.
func cleanClient(text string) (string, error) {
	if !identifier.MatchString(text) {
		return "", errors.New("not an application's id")
	}
	return text, nil
}

func cleanTag(text string) (string, error) {
	if strings.Contains(text, ",") {
		return "", errors.New("more than one tag")
	}
	return text, nil
}

func cleanResource(text string) (string, error) {
	switch {
	case strings.ContainsAny(text, " \t"):
		return "", errors.New("text with white space in it")
	case strings.HasSuffix(text, "/.default"):
		return "", errors.New("a scope")
	}
	return text, nil
}
