// The server proves first that it knows the key; only then does it get our proof.
(async () => {
  const text = new TextEncoder();
  const unhex = s => new Uint8Array(s.match(/../g).map(b => parseInt(b, 16)));
  const hex = b => Array.from(new Uint8Array(b), x => x.toString(16).padStart(2, '0')).join('');
  const key = await crypto.subtle.importKey('raw', unhex(horizon.key), {name: 'HMAC', hash: 'SHA-256'}, false, ['sign', 'verify']);
  const words = (who, a, b) => text.encode(who + '\n' + a + '\n' + b);
  const mine = hex(crypto.getRandomValues(new Uint8Array(32)));
  const answer = await fetch(horizon.page + 'hello', {
    method: 'POST', credentials: 'omit', cache: 'no-store', redirect: 'error', referrerPolicy: 'no-referrer',
    body: new URLSearchParams({id: horizon.id, nonce: mine}),
  });
  if (answer.status === 403) throw new Error('This file was used already, or is too old. Run ipfscloud horizon again.');
  const said = await answer.json();
  if (!await crypto.subtle.verify('HMAC', key, unhex(String(said.proof)), words('horizon/server', mine, said.nonce)))
    throw new Error('What answers at ' + horizon.page + ' is not your drive’s page. Nothing was told to it.');
  const proof = hex(await crypto.subtle.sign('HMAC', key, words('horizon/file', mine, said.nonce)));
  location.replace(horizon.page + 'login#' + horizon.id + '.' + proof);
})().catch(e => {
  document.getElementById('said').textContent = e instanceof TypeError || e instanceof SyntaxError
    ? 'What answers at ' + horizon.page + ' did not show that it is your drive’s page, or the drive is not mounted, or this browser does not let a file ask. Nothing was told to it. In a terminal, ipfscloud horizon --print prints a link.'
    : e.message;
});
