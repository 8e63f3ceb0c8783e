"""The laboratory in which the captures are made: hosts, impairment, recorders, taps.

An arrow never turns back::

    scenarios -> { demo, ends } -> stage -> { servers, relay, tap, streams }
        relay -> record       servers -> site       tap, streams -> frames
        all -> netns; stage, scenarios -> impair -> netns
"""
