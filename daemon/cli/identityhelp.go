package cli

// idWords are the words that `id` takes, and idHelp what they do.
const (
	idWords = "show | phrase | resolve DID | publish | rotate | service add|remove URL | migrate | deactivate | claim self|issue|add|list|verify|remove … | domain link|verify ORIGIN | login [REQUEST]"

	idHelp = "`id show` tells who you are here; `id phrase` shows the recovery phrase that was not confirmed yet." +
		"\n\n" +
		"`id resolve DID` prints the result of a DID resolution as JSON, with the document, its metadata and, with --json, also the error. It knows did:key, did:web, did:peer and did:webvh. " +
		"Of a did:webvh it asks the log that is known here, other devices' commits for the identity's own, IPNS where a node joins the network, and HTTPS; it believes none of them, takes the longest log that verifies, and refuses an older one from then on. " +
		"With --log it verifies the log in a file, and the proofs of witnesses in another one, without any network. A version is chosen by --version-id, --version-time or --version-number, or by a query in the DID, as did:webvh:…?versionNumber=1. " +
		"What fails is told by its name: invalidDid (2 for a text that is no DID, 6 for a log that does not hold), notFound (3), methodNotSupported, invalidOptions, invalidDidUrl (2)." +
		"\n\n" +
		"`id publish` lets all read the log: under the IPNS name in the DID, through a node that joins the network (public = true, or --ipfs), renewed while the drive is mounted; --stop ends that. " +
		"--domain DOMAIN --out DIR moves the DID to a web server of your own, and writes the files that are to lie there; --out alone writes them anew. A later `recover` moves the DID back, for it might be a thief who has moved it, unless you give it --domain DOMAIN. Before, nothing of the identity is public." +
		"\n\n" +
		"`id rotate` draws this device's update keys anew, so that an older copy of the keystore cannot change the DID document. `id service add URL --public` writes a service into the document, for everybody to see; `remove` takes it out of the newest version, and the log still has it. " +
		"`id migrate` makes a did:webvh of a did:key, with the same phrase, device and vault: the new document names the did:key under alsoKnownAs, and the did:key, whose document cannot change, signs a statement. Each asks for the passphrase: the session has no key for it." +
		"\n\n" +
		"`id deactivate` gives the DID up for good: with the passphrase and the recovery phrase it writes the last version, which lists nothing. Nobody can log in with the DID or mount its drive any more: copy what you need before. " +
		"Where the log was published through a node of your own, the last version goes there at once." +
		"\n\n" +
		"`id claim self NAME=VALUE…` signs a verifiable credential by the identity about itself, and keeps it; `claim issue DID NAME=VALUE…` signs and prints one about somebody else; `claim add FILE` keeps one about this identity that somebody issued, if it verifies; `claim list`, `claim verify FILE` and `claim remove HANDLE` do what they say. " +
		"A credential that has expired, that another key than one of its issuer's newest document signed, or that is about somebody else does not hold (6). Claims lie on this device, sealed. " +
		"`id domain link ORIGIN` prints the file by which a web origin says that it belongs to the DID; `id domain verify ORIGIN` asks the origin and verifies it." +
		"\n\n" +
		"`id login REQUEST` answers a site or a program that asks who you are: it shows who asks and for what, asks you, and signs. To a site it posts the answer and prints the link that finishes the login in your browser; else it prints the answer. " +
		"Without REQUEST it answers the programs that wait at the control socket of the mounted drive. It wants a session (`ipfscloud login`)."
)
