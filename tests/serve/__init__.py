"""Tests of the service, one file a module where a module can be tested alone.

`test_app` tests `app`, `service`, `pictures` and `metrics` by requests; `test_bodies` tests `bodies`; `test_openapi`
tests `openapi`, and holds all responses to it; `test_parts` tests `parts` and `pool`; `test_reload` tests `reload` and
`lifecycle`, `collection` too; `test_removal` what leaves the disk with a removed image; `test_commands` tests
`commands` and `settings`; `refusal` is tested wherever a request is refused, its `Retry-After` in `test_engine`;
`test_texts` tests `texts`, and with `wording` that the page's texts are in one place; `test_cluster` tests
`nda-index serve --ray`; `test_deploy` the files in deploy/.
"""
