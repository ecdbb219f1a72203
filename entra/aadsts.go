package entra

// diagnosis is what an AADSTS code of Entra ID means for an operator.
type diagnosis struct {
	what      string
	remedy    string
	transient bool // goes away by itself; else an operator must act
}

// entraHealth is the remedy where only Entra ID can mend it.
const entraHealth = "if it lasts, look at the health of Entra ID"

// logInAgain is the remedy of a login that ended.
const logInAgain = "log in again with `defenderctl login`; no restart is needed"

const (
	// rightTime is the remedy of an assertion that is too early or too late.
	rightTime = "set this machine's clock right; the token in federated_token_file must be renewed in time"
	// fitFederation is the remedy of a token that no federated credential fits.
	fitFederation = "compare issuer, subject (system:serviceaccount:NAMESPACE:NAME) and audience " +
		"of the application's federated credential with the token in federated_token_file"
)

// diagnoses holds, in plain words, the codes that Microsoft documents, and the finer
// ones of Microsoft's table of errors that certificates, federated credentials and
// logins meet.
var diagnoses = map[int]diagnosis{
	// The client secret.
	7000215: {what: "the client secret is wrong",
		remedy: "put the secret's value, not its id, into client_secret or client_secret_file"},
	7000222: {what: "the client secret has expired",
		remedy: "make a new secret for the application in Entra ID " +
			"and put its value into client_secret or client_secret_file"},

	// Who asks, and where.
	700016: {what: "the application is unknown in this tenant",
		remedy: "check client_id, tenant_id and cloud; the application may have been deleted"},
	7000229: {what: "the application was not admitted to this tenant",
		remedy: "let an administrator of the tenant consent to the application; check client_id and tenant_id"},
	70001: {what: "the application is disabled or unknown in this tenant",
		remedy: "enable it under enterprise applications in Entra ID, or check client_id and tenant_id"},
	7000112: {what: "the application is disabled",
		remedy: "enable it under enterprise applications in Entra ID"},
	90002: {what: "the tenant is unknown in this cloud",
		remedy: "check tenant_id, cloud and authority"},
	900023: {what: "the tenant's identifier is neither an id nor a domain",
		remedy: "put the tenant's id (a GUID) or one of its domains into tenant_id"},
	90038: {what: "the tenant is in another national cloud",
		remedy: "set cloud to the tenant's, and authority and token_url with it where they are given"},
	900382: {what: "an application of one cloud may not ask for tokens of a tenant in another",
		remedy: "register the application in the tenant's cloud, and set cloud to that"},
	50194: {what: "the application is for its own tenant only",
		remedy: "make it a multi-tenant one under authentication in Entra ID, " +
			"or put its own tenant into tenant_id and token_url"},
	53003: {what: "a conditional access policy blocks the application",
		remedy: "let the policy for workload identities admit this application from this address"},

	// What it asks for.
	500011: {what: "the resource is unknown in this tenant, or nobody consented to it",
		remedy: "check resource and tenant_id, and enable SIEM integration in Defender"},
	65001: {what: "nobody consented to the application's permissions",
		remedy: "let an administrator grant consent for the application in Entra ID"},
	650057: {what: "the application was not given permissions on this resource",
		remedy: "add them under API permissions in Entra ID and grant consent, or check resource"},
	1002012: {what: "the scope must end in /.default",
		remedy: "check resource: it is an address, and the plugin adds /.default to it"},
	901002: {what: "a v1 parameter went to a v2 endpoint",
		remedy: "let token_url end in /v2.0/token for v2, in /oauth2/token for v1"},

	// Assertions.
	700027: {what: "the signature of the assertion cannot be verified",
		remedy: "upload the certificate in use to the application in Entra ID"},
	50012: {what: "the assertion was refused",
		remedy: "check that the certificate or federated credential is the application's and has not expired"},
	50013: {what: "the assertion is not valid",
		remedy: "check its issuer, subject and audience against the application's federated credential"},
	500133: {what: "the assertion is outside its time range", remedy: rightTime},
	700024: {what: "the assertion is outside its time range", remedy: rightTime},
	700021: {what: "the assertion is another application's",
		remedy: "check client_id"},
	700023: {what: "the assertion is for another token endpoint",
		remedy: "check token_url, authority and tenant_id"},
	70021: {what: "no federated credential of the application fits the token", remedy: fitFederation},
	700211: {what: "no federated credential of the application has the token's issuer",
		remedy: fitFederation},
	700212: {what: "no federated credential of the application has the token's audience",
		remedy: fitFederation},
	700213: {what: "no federated credential of the application has the token's subject",
		remedy: fitFederation},
	70023: {what: "the federated token was not accepted", remedy: fitFederation},
	700222: {what: "tokens that Entra ID issued itself are no federated credential",
		remedy: "let federated_token_file hold the token of the cluster or of another issuer; " +
			"for an identity of Azure use auth managed_identity"},
	7000218: {what: "the application must prove itself, and did not",
		remedy: "give it a credential; for a login, add http://localhost " +
			"under mobile and desktop applications and allow public client flows"},
	700025: {what: "the application is a public one, which has no credential",
		remedy: "forbid public client flows in Entra ID, or use auth authorization_code"},

	// Logins of a person.
	70008:  {what: "the login has expired", remedy: logInAgain},
	700082: {what: "the login has expired because it was not used for too long", remedy: logInAgain},
	50173:  {what: "the login was revoked, for example by a changed password", remedy: logInAgain},
	54005:  {what: "the authorization code was used already", remedy: logInAgain},

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
