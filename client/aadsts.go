package client

// diagnosis is what an AADSTS code of Entra ID means for an operator.
type diagnosis struct {
	what      string
	remedy    string
	transient bool // goes away by itself; else an operator must act
}

// entraHealth is the remedy where only Entra ID can mend it.
const entraHealth = "if it lasts, look at the health of Entra ID"

// diagnoses holds the codes that facts/microsoft.md lists, in plain words.
var diagnoses = map[int]diagnosis{
	// The client secret.
	7000215: {what: "the client secret is wrong",
		remedy: "put the secret's value, not its id, into client_secret or client_secret_file"},
	7000222: {what: "the client secret has expired",
		remedy: "make a new secret for the application in Entra ID and put its value into client_secret or client_secret_file"},

	// Who asks, and where.
	700016: {what: "the application is unknown in this tenant",
		remedy: "check client_id, tenant_id and cloud; the application may have been deleted"},
	70001: {what: "the application is disabled or unknown in this tenant",
		remedy: "enable it under enterprise applications in Entra ID, or check client_id and tenant_id"},
	7000112: {what: "the application is disabled",
		remedy: "enable it under enterprise applications in Entra ID"},
	90002: {what: "the tenant is unknown in this cloud",
		remedy: "check tenant_id, cloud and authority"},
	53003: {what: "a conditional access policy blocks the application",
		remedy: "let the policy for workload identities admit this application from this address"},

	// What it asks for.
	500011: {what: "the resource is unknown in this tenant, or nobody consented to it",
		remedy: "check resource and tenant_id, and enable SIEM integration in Defender"},
	65001: {what: "nobody consented to the application's permissions",
		remedy: "let an administrator grant consent for the application in Entra ID"},
	650057: {what: "the application was not given permissions on this resource",
		remedy: "add them under API permissions in Entra ID and grant consent, or check resource"},
	901002: {what: "a v1 parameter went to a v2 endpoint",
		remedy: "let token_url end in /v2.0/token for v2, in /oauth2/token for v1"},

	// Assertions.
	700027: {what: "the signature of the assertion cannot be verified",
		remedy: "upload the certificate in use to the application in Entra ID"},
	50012: {what: "the assertion was refused",
		remedy: "check that the certificate or federated credential is the application's and has not expired"},
	50013: {what: "the assertion is not valid",
		remedy: "check its issuer, subject and audience against the application's federated credential"},
	500133: {what: "the assertion is outside its time range",
		remedy: "set this machine's clock right"},
	700024: {what: "the assertion is outside its time range",
		remedy: "set this machine's clock right"},

	// Logins of a person.
	70008: {what: "the login has expired",
		remedy: "log in again"},
	700082: {what: "the login has expired because it was not used for too long",
		remedy: "log in again"},
	50173: {what: "the login was revoked, for example by a changed password",
		remedy: "log in again"},
	54005: {what: "the authorization code was used already",
		remedy: "log in again"},

	// Nobody's fault here.
	50196: {what: "Entra ID sees a loop of equal token requests and blocks them for a while", transient: true,
		remedy: "wait; look for other programs or many stanzas with the same client_id"},
	90055: {what: "the tenant is throttled for too many requests", transient: true,
		remedy: "if it lasts, let fewer programs ask for tokens"},
	50033: {what: "Entra ID had an error", transient: true, remedy: entraHealth},
	90006: {what: "Entra ID had an error with another service", transient: true, remedy: entraHealth},
	90012: {what: "the request timed out in Entra ID", transient: true, remedy: entraHealth},
	90024: {what: "Entra ID took too long for the request", transient: true, remedy: entraHealth},
	90033: {what: "the directory of Entra ID is not available", transient: true, remedy: entraHealth},
}
